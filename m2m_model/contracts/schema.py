"""The Arrow schemas of dataset rows, feature days and predictions, all derived from the spec.

A dataset row (one sample) has these columns:

==================  ============================  ==========================================================
advertiser_id       string or int64               passed through
scenario_id         string
as_of               date32                        also the ``dt=`` partition
scenario_index      int16                         0 = unseen in training
eligible            bool                          at least ``min_active_days`` own active days in the window
active_days         int16                         own active days among the T days
behavior_ids        list<int8 or int16> [T * Fb]  time-major: day 0's Fb ids first, oldest day first
performance_ids     list<int8 or int16> [T * Fp]
profile_ids         list<int32> [P]
attribute_ids       list<int32> [A]               scenario attributes
dense               list<float> [D]               log1p values, see ``DatasetSpec.dense_size``
history_<task>      list<double> [weeks + 1]      weekly sums, most recent first, then the T-day sum
label_<task>        double                        absent from feature days
exposure_<task>     double                        of rates alone; absent from feature days
==================  ============================  ==========================================================
"""

import hashlib

import pyarrow as pa
import pyarrow.compute as pc

from m2m_model.contracts.spec import AMOUNTS, DatasetSpec, SequenceColumn, exposure_columns, task_columns

KEYS = ("advertiser_id", "scenario_id", "as_of")
FORECASTS = ("mean", "point", "smape")
"""Kinds of forecast that predictions carry per task, see the README's "Point forecasts"."""
QUANTILES = {"p05": 0.05, "p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9, "p95": 0.95}
"""Quantiles that predictions carry per count and spend, where the model has a predictive distribution."""


def sequence_type(columns: tuple[SequenceColumn, ...]) -> pa.DataType:
    """Smallest integer type of both Spark and Parquet that holds every id of a sequence."""
    largest = max((column.size for column in columns), default=0)
    return pa.int8() if largest <= 128 else pa.int16()


def dataset_schema(spec: DatasetSpec, *, labels: bool) -> pa.Schema:
    """Schema of dataset rows (``labels=True``) or of a feature day (``labels=False``)."""
    fields = [
        pa.field("advertiser_id", advertiser_id_type(spec), nullable=False),
        pa.field("scenario_id", pa.string(), nullable=False),
        pa.field("as_of", pa.date32(), nullable=False),
        pa.field("scenario_index", pa.int16(), nullable=False),
        pa.field("eligible", pa.bool_(), nullable=False),
        pa.field("active_days", pa.int16(), nullable=False),
        pa.field("behavior_ids", pa.list_(sequence_type(spec.behavior)), nullable=False),
        pa.field("performance_ids", pa.list_(sequence_type(spec.performance)), nullable=False),
        pa.field("profile_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("attribute_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("dense", pa.list_(pa.float32()), nullable=False),
        *(pa.field(name, pa.list_(pa.float64()), nullable=False) for name in task_columns(spec, "history")),
    ]
    if labels:
        names = (*task_columns(spec, "label"), *exposure_columns(spec).values())
        fields += [pa.field(name, pa.float64(), nullable=False) for name in names]
    return pa.schema(fields)


def prediction_schema(spec: DatasetSpec, *, quantiles: bool) -> pa.Schema:
    """Schema of predictions: keys, forecasts per task, model version and fingerprint."""
    return pa.schema(
        [
            pa.field("advertiser_id", advertiser_id_type(spec), nullable=False),
            pa.field("scenario_id", pa.string(), nullable=False),
            pa.field("as_of", pa.date32(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in forecast_names(spec, quantiles=quantiles)),
            pa.field("model_version", pa.string(), nullable=False),
            pa.field("feature_fingerprint", pa.string(), nullable=False),
        ]
    )


def forecast_names(spec: DatasetSpec, *, quantiles: bool) -> list[str]:
    """Columns of forecasts: those of :data:`FORECASTS` task by task, then the quantiles likewise."""
    names = [f"{task}_{forecast}" for task in spec.task_names for forecast in FORECASTS]
    if quantiles:
        names += [f"{task.name}_{name}" for task in spec.tasks if task.kind in AMOUNTS for name in QUANTILES]
    return names


def advertiser_id_type(spec: DatasetSpec) -> pa.DataType:
    return pa.string() if spec.advertiser_id_type == "string" else pa.int64()


def sorted_rows_hash(table: pa.Table) -> str:
    """Hash of a table's rows sorted by key: what "equal" means between two builds. Column order matters not."""
    table = table.select(sorted(table.column_names)).replace_schema_metadata(None)
    table = table.take(pc.sort_indices(table, [(key, "ascending") for key in KEYS])).combine_chunks()
    digest = hashlib.sha256()
    for name in table.column_names:
        digest.update(f"{name}:{table.schema.field(name).type};".encode())
        digest.update(repr(table.column(name).to_pylist()).encode())
    return digest.hexdigest()
