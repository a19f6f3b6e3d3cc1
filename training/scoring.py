"""Scoring the Parquet files of a published folder: a stream in bounded memory, many actors, one output file each.

Letters: N rows, M tasks.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from jaxtyping import Float, Int
from ray.util import ActorPool
from torch import Tensor

from m2m_model import kernel
from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS, QUANTILES, dataset_schema, forecast_names, prediction_schema
from m2m_model.contracts.spec import DatasetSpec, exposure_columns, task_columns
from m2m_model.contracts.store import FileEntry, Folder, damaged_file, data_path, first_line
from m2m_model.meta import Generator, MetaUnit
from m2m_model.model import Model
from training.allocator import keep_freed_memory
from training.config import ClusterConfig, Precision
from training.dataset import batch_columns, refuse_extension_types
from training.forecast import ForecastRules, Forecasts, fit_rules
from training.groups import advertiser_groups
from training.preflight import check_resources
from training.progress import Display

MAKE_AGAIN = "build it again"
ROWS_AT_A_TIME = 2048
"""Of a model's forward pass: its activations fit in cache."""


class Forecaster(Protocol):
    """Anything that forecasts: a model or a baseline."""

    @property
    def quantiles(self) -> bool:
        """Whether its forecasts have quantiles."""
        ...

    def __call__(self, batch: Batch) -> Forecasts: ...


@dataclass(frozen=True)
class ModelForecaster:
    """The forecasts of a module.

    Rows are scored in the order of their knowledge keys, so that rows of a key share what is generated from it; a
    row's forecast does not depend on its batch beyond float rounding.
    """

    module: Model
    precision: Precision = "fp32"

    @cached_property
    def scored_with(self) -> Model:
        """The module; under bf16 a copy with rounded generators, if it has some that are better rounded."""
        return with_rounded_generators(self.module) if self.precision == "bf16" else self.module

    @property
    def quantiles(self) -> bool:
        return self.module.output.bins is not None

    def __call__(self, batch: Batch) -> Forecasts:
        return mixtures([self], batch, [[0]])[0]


def mixtures(members: Sequence[ModelForecaster], batch: Batch, subsets: Sequence[Sequence[int]]) -> list[Forecasts]:
    """The forecasts of subsets of models of the same spec, of several models those of their mixture (see
    :meth:`m2m_model.output.Output.forecasts`). Each model sees the batch once."""
    modules = [member.scored_with.eval() for member in members]
    order = knowledge_order(batch)
    parts: list[list[Forecasts]] = [[] for _ in subsets]
    with torch.inference_mode():
        for rows in torch.split(order, ROWS_AT_A_TIME):
            piece, parameters = batch.select(rows), []
            for member, module in zip(members, modules, strict=True):
                with torch.autocast("cpu", torch.bfloat16, enabled=member.precision == "bf16"):
                    parameters.append(module(piece))
            for found, subset in zip(parts, subsets, strict=True):
                mixture = modules[0].output.forecasts(*(parameters[member] for member in subset))
                found.append(Forecasts(*(part.numpy() for part in mixture)))
    back = order.argsort().numpy()
    return [Forecasts.concatenate(found).take(back) for found in parts]


def with_rounded_generators(module: Model) -> Model:
    """A copy whose generators, nearly all of M2M, are in bf16: autocast would round them for every product anew. The
    kernel rounds them as it reads them, so that those it takes stay as they are."""
    if not any(True for _ in _better_rounded(module)):
        return module
    rounded = copy.deepcopy(module)
    for generator in _better_rounded(rounded):
        generator.bfloat16()
    return rounded


def _better_rounded(module: Model) -> Iterator[Generator]:
    units = (part for part in module.modules() if isinstance(part, MetaUnit))
    return (
        generator
        for unit in units
        for generator in unit.weight_generators
        if isinstance(generator, Generator) and not kernel.takes(generator.by_scenario, bf16=True)
    )


def knowledge_order(batch: Batch) -> Int[Tensor, "N"]:
    """The rows of a batch, those of a knowledge key (see ``m2m_model.generated``) side by side."""
    keys = torch.cat([batch.scenario.unsqueeze(1), batch.attributes, batch.profile], dim=1)
    return torch.unique(keys, dim=0, return_inverse=True)[1].argsort(stable=True) if len(batch) else torch.arange(0)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where rows come from."""

    location: str
    spec: DatasetSpec
    batch_size: int

    def tables(self, entry: FileEntry) -> Iterator[pa.Table]:
        """The rows of one file, ``batch_size`` at a time.

        The file is read through before any row is given, since Parquet's footers and page headers have no checksums.

        Raises:
            UserError: the file is missing or damaged; the message names it.
        """
        folder = Folder.at(self.location)
        folder.check_content([entry], hint=MAKE_AGAIN)
        try:
            with folder.filesystem.open_input_file(folder.join(entry.path)) as stream:
                parquet = pq.ParquetFile(stream)
                refuse_extension_types(parquet.schema_arrow, f"{self.location}/{entry.path}")
                for batch in parquet.iter_batches(self.batch_size):
                    yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowInvalid) as error:
            raise damaged_file(folder, entry, first_line(error), hint=MAKE_AGAIN) from None

    def batch(self, table: pa.Table) -> Batch:
        return Batch.from_columns(batch_columns(table, self.spec), self.spec)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Labels and forecasts of rows held in memory: what forecast rules are fitted on."""

    scenarios: np.ndarray
    groups: Int[np.ndarray, "N"]
    """Of their advertisers, see :mod:`training.groups`."""
    eligible: np.ndarray
    active_days: np.ndarray
    labels: Float[np.ndarray, "N M"]
    exposures: Float[np.ndarray, "N M"]
    forecasts: Forecasts

    @classmethod
    def concatenate(cls, parts: Sequence["Scored"]) -> "Scored":
        names = ("scenarios", "groups", "eligible", "active_days", "labels", "exposures")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**arrays, forecasts=Forecasts.concatenate([part.forecasts for part in parts]))

    def fit_rules(self, spec: DatasetSpec) -> ForecastRules:
        """See :func:`training.forecast.fit_rules`."""
        return fit_rules(
            self.forecasts,
            self.labels,
            self.exposures,
            scenarios=self.scenarios,
            groups=self.groups,
            eligible=self.eligible,
            spec=spec,
        )


def score_rows(table: pa.Table, source: Source, forecaster: Forecaster) -> Scored:
    """Score one table of dataset rows, which carry labels."""
    return scored_rows(table, source.spec, forecaster(source.batch(table)))


def scored_rows(table: pa.Table, spec: DatasetSpec, forecasts: Forecasts) -> Scored:
    """Forecasts of dataset rows, which carry labels."""
    return Scored(
        scenarios=table["scenario_id"].to_numpy().astype(str),
        groups=advertiser_groups(table["advertiser_id"].to_pylist()),
        eligible=table["eligible"].to_numpy(),
        active_days=table["active_days"].to_numpy(),
        labels=row_labels(table, spec),
        exposures=row_exposures(table, spec),
        forecasts=forecasts,
    )


def row_labels(table: pa.Table, spec: DatasetSpec) -> Float[np.ndarray, "N M"]:
    """In full precision: a batch's are single."""
    return np.stack([table[name].to_numpy() for name in task_columns(spec, "label")], axis=1)


def row_exposures(table: pa.Table, spec: DatasetSpec) -> Float[np.ndarray, "N M"]:
    """What rates are per, 1 of other tasks."""
    exposures = np.ones((len(table), len(spec.tasks)))
    for index, name in exposure_columns(spec).items():
        exposures[:, index] = table[name].to_numpy()
    return exposures


@dataclass(frozen=True, kw_only=True)
class Collect:
    """File -> its rows scored in memory."""

    source: Source
    forecaster: Forecaster

    def __call__(self, entry: FileEntry) -> Scored:
        return Scored.concatenate([score_rows(t, self.source, self.forecaster) for t in self.source.tables(entry)])


@dataclass(frozen=True, kw_only=True)
class Predict:
    """File of a feature day -> file of predictions, in the schema of :func:`prediction_schema`."""

    source: Source
    forecaster: Forecaster
    rules: ForecastRules
    version: str
    out: str
    generation: str

    def __call__(self, entry: FileEntry) -> FileEntry:
        schema = prediction_schema(self.source.spec, quantiles=self.forecaster.quantiles)
        tables = (self._predictions(table, schema) for table in self.source.tables(entry))
        name = entry.path.rpartition("/")[2]
        relative = data_path(self.generation, name)
        return write_parquet(Folder.at(self.out), relative, schema, tables, partition=entry.partition)

    def _predictions(self, table: pa.Table, schema: pa.Schema) -> pa.Table:
        forecasts = self.forecaster(self.source.batch(table))
        columns: dict[str, Any] = {key: table[key] for key in KEYS}
        columns |= forecast_columns(self.source.spec, forecasts, self.rules)
        columns["model_version"] = [self.version] * len(table)
        columns["feature_fingerprint"] = [self.source.spec.feature_fingerprint] * len(table)
        return pa.table(columns, schema=schema)


def forecast_columns(spec: DatasetSpec, forecasts: Forecasts, rules: ForecastRules) -> dict[str, np.ndarray]:
    """``<task>_<forecast>`` and ``<task>_<quantile>`` columns, see :func:`forecast_names`."""
    columns = {
        f"{task}_{kind}": values[:, index]
        for kind, values in rules.apply(forecasts).items()
        for index, task in enumerate(spec.task_names)
    }
    for index, task in enumerate(spec.task_names):
        # None of a forecaster without a predictive distribution.
        pairs = zip(QUANTILES, forecasts.quantiles[:, index].T, strict=False)
        columns |= {f"{task}_{name}": column for name, column in pairs}
    return columns


def evaluation_schema(spec: DatasetSpec, *, quantiles: bool) -> pa.Schema:
    """Keys, eligibility, labels and forecasts of one model over the test period."""
    rows, predictions = dataset_schema(spec, labels=True), prediction_schema(spec, quantiles=quantiles)
    names = [*KEYS, "eligible", "active_days", *task_columns(spec, "label")]
    forecasts = (predictions.field(name) for name in forecast_names(spec, quantiles=quantiles))
    return pa.schema([*(rows.field(name) for name in names), *forecasts])


def write_parquet(
    folder: Folder, relative: str, schema: pa.Schema, tables: Iterator[pa.Table], *, partition: Mapping[str, str]
) -> FileEntry:
    """Write tables as row groups of one file; returns its entry, checksum included."""
    folder.make_parents(relative)
    groups = []
    with (
        folder.filesystem.open_output_stream(folder.join(relative)) as stream,
        pq.ParquetWriter(stream, schema, compression="zstd") as writer,
    ):
        for table in tables:
            writer.write_table(table.cast(schema), row_group_size=max(len(table), 1))
            groups.append(len(table))
    digest, size = hashlib.sha256(), 0
    with folder.filesystem.open_input_stream(folder.join(relative)) as written:
        while block := written.read(1 << 20):
            digest.update(block)
            size += len(block)
    return FileEntry(
        path=relative,
        bytes=size,
        sha256=digest.hexdigest(),
        rows=sum(groups),
        row_groups=tuple(groups),
        partition=dict(partition),
    )


class _Worker:
    """Fetches the function with its first file: Ray has no restarts for actors whose arguments it may lose."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        keep_freed_memory()
        self.function: Callable[[FileEntry], Any] | None = None

    def run(self, function: Sequence[ray.ObjectRef], entry: FileEntry) -> Any:
        if self.function is None:
            (reference,) = function  # within a sequence, since Ray would fetch an argument for every call
            self.function = ray.get(reference)
        return self.function(entry)


def map_files(
    function: Callable[[FileEntry], Any],
    entries: Sequence[FileEntry],
    *,
    actors: int,
    cluster: ClusterConfig,
    display: Display,
) -> list[Any]:
    """``function`` of each file, on Ray actors; results in the order of ``entries``.

    What an actor that dies had in hand is done again by its successor, which replaces what it wrote.

    Raises:
        UserError: the cluster cannot hold the actors, ``function`` raised one, or actors die again and again.
        OSError: ``function`` raised one.
    """
    actors = max(1, min(actors, len(entries)))
    check_resources(cluster, ray.cluster_resources(), workers=actors, what="scoring actors")
    retries = cluster.max_failures
    remote = ray.remote(_Worker).options(
        num_cpus=cluster.cpus_per_worker, max_restarts=retries, max_task_retries=retries
    )
    shared = [ray.put(function)]
    workers = [remote.remote(max(1, int(cluster.cpus_per_worker))) for _ in range(actors)]
    results, rows = [], 0
    try:
        mapped = ActorPool(workers).map(lambda worker, entry: worker.run.remote(shared, entry), list(entries))
        for entry, result in zip(entries, mapped, strict=True):
            results.append(result)
            rows += entry.rows
            display.show(rows, f"{len(results)} of {len(entries)} files")
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError | OSError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise UserError(
            f"a scoring actor died {retries + 1} times ({first_line(error)}): if its node is out of memory lower "
            "predict.batch_size, else raise cluster.max_failures, and run the same command again"
        ) from None
    finally:
        for worker in workers:
            ray.kill(worker)
    return results
