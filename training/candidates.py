"""Candidates for a rewarded task: advertisers active in a scenario now, whose activity is forecast to fade there."""

import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.store import (
    Folder,
    Manifest,
    data_path,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)
from training.scoring import write_parquet

KIND = "candidates"
PREDICT_HINT = "run jobs/predict.py --date D first"


class CandidateRule(StrictConfig):
    """Eligible pairs whose mean forecast of ``task`` is less than ``below``, in the task's unit per horizon."""

    task: str = "active_days"
    below: float = Field(default=1.0, gt=0)


def select_candidates(features: pa.Table, predictions: pa.Table, rule: CandidateRule) -> pa.Table:
    """Keys, active days in the window and forecast of the candidates, the lowest forecast first.

    Raises:
        UserError: the predictions have no such task.
    """
    forecast = f"{rule.task}_mean"
    if forecast not in predictions.column_names:
        tasks = [name.removesuffix("_mean") for name in predictions.column_names if name.endswith("_mean")]
        raise UserError(f"the candidates' task must be one of {tasks}, however: {rule.task!r}")
    now_active = features.filter(features["eligible"]).select([*KEYS, "active_days"])
    joined = now_active.join(predictions.select([*KEYS, forecast, "model_version"]), list(KEYS), join_type="inner")
    chosen = joined.filter(pc.less(joined[forecast], rule.below))
    return chosen.sort_by([(forecast, "ascending"), *((key, "ascending") for key in KEYS)]).combine_chunks()


def publish_candidates(
    *, features: str, predictions: str, out: str, rule: CandidateRule, grace_seconds: float
) -> Manifest:
    """Publish one day's candidates at ``out``, replacing exactly that day."""
    day = _read(features, kind="features", hint="run jobs/build_dataset.py --date D first")
    table = select_candidates(day, _read(predictions, kind="predictions", hint=PREDICT_HINT), rule)
    folder, generation = Folder.at(out), new_generation()
    path = data_path(generation, "part-0.parquet")
    entry = write_parquet(folder, path, table.schema, iter([table]), partition={})
    manifest = Manifest(
        kind=KIND,
        generation=generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=(entry,),
        content={"rule": rule.model_dump(mode="json")},
    )
    publish(folder, manifest)
    remove_superseded(folder, live=generation, grace_seconds=grace_seconds)
    return manifest


def _read(location: str, *, kind: str, hint: str) -> pa.Table:
    folder = Folder.at(location)
    entries = [e for e in read_manifest(folder, kind=kind, build_hint=hint).files if e.path.endswith(".parquet")]
    if not entries:
        raise UserError(f"{location} must hold rows, however: it has no Parquet file")
    # List columns do not go through a join; nothing here needs them.
    flat = [pq.read_table(pa.BufferReader(folder.read_bytes(entry.path))) for entry in entries]
    names = [field.name for field in flat[0].schema if not pa.types.is_list(field.type)]
    return pa.concat_tables([table.select(names) for table in flat])
