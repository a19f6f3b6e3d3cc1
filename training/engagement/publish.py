"""A day's lists, published one by one beside its predictions."""

import datetime
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.store import (
    FileEntry,
    Folder,
    Manifest,
    damaged_file,
    data_path,
    first_line,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)
from training.engagement.config import ListConfig
from training.engagement.inputs import KIND, excluded_advertisers, list_inputs, recent_lists
from training.engagement.selection import Obstacles, Selection, cooling_pairs
from training.predict import parquet_files, read_spec
from training.scoring import write_parquet

PREDICT_HINT = "run jobs/predict.py --date D first"


def publish_list(
    name: str,
    rule: ListConfig,
    *,
    date: datetime.date,
    features: str,
    predictions: str,
    lists: str,
    grace_seconds: float,
) -> Manifest:
    """Select list ``name`` of as-of day ``date`` and publish it at ``<lists>/<name>/dt=<date>``, replacing that day.

    Args:
        features, predictions: the day's published folders.
        lists: folder of all lists; the recent days of this one there are what cools down.

    Raises:
        UserError: the day is not predicted, or predictions and features are not of one another.
    """
    source = Folder.at(features)
    inputs = list_inputs(name, rule, date=date, lists=lists)
    day = read_manifest(source, kind="features", build_hint="run jobs/build_dataset.py --date D first")
    scored = read_manifest(Folder.at(predictions), kind="predictions", build_hint=PREDICT_HINT)
    if scored.content["features_generation"] != day.generation:
        raise UserError(
            f"{predictions} is of features {scored.content['features_generation']}, the day's are {day.generation}: "
            "predict the day again"
        )
    excluded = pa.array(excluded_advertisers(rule), pa.string())
    obstacles = Obstacles(excluded=excluded, cooling=_cooling(recent_lists(name, rule, date=date, lists=lists)))
    selection = Selection(rule=rule, spec=read_spec(source, day), obstacles=obstacles)
    by_name = {_name(entry): entry for entry in parquet_files(scored)}
    wanted = [*KEYS, "eligible", "active_days", *(f"history_{task}" for task in rule.minimum_scale)]
    for entry in parquet_files(day):
        rows = _read(source, entry, wanted)
        selection.add(rows, _read(Folder.at(predictions), by_name[_name(entry)], None))
    return _publish(f"{lists}/{name}/dt={date}", name, selection, scored, inputs, grace_seconds)


def _publish(
    out: str, name: str, selection: Selection, scored: Manifest, inputs: Mapping[str, Any], grace_seconds: float
) -> Manifest:
    folder, generation, table = Folder.at(out), new_generation(), selection.table()
    entry = write_parquet(folder, data_path(generation, "part-0.parquet"), table.schema, iter([table]), partition={})
    manifest = Manifest(
        kind=KIND,
        generation=generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=(entry,),
        content={
            "list": name,
            **inputs,
            "passed_over": selection.passed_over,
            "predictions_generation": scored.generation,
            "model_version": scored.content["model_version"],
        },
    )
    publish(folder, manifest)
    remove_superseded(folder, live=generation, grace_seconds=grace_seconds)
    return manifest


def _cooling(recent: Mapping[str, Folder]) -> frozenset[tuple[str, str]]:
    tables: dict[str, pa.Table] = {}
    for day in recent.values():
        for entry in read_manifest(day, kind=KIND, build_hint="select that day again").files:
            tables[entry.path] = _read(day, entry, ["advertiser_id", "scenario_id"])
    return cooling_pairs(tables)


def _read(folder: Folder, entry: FileEntry, columns: list[str] | None) -> pa.Table:
    hint = "make that day again"
    folder.check_content([entry], hint=hint)
    try:
        with folder.filesystem.open_input_file(folder.join(entry.path)) as stream:
            return pq.read_table(stream, columns=columns).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise damaged_file(folder, entry, first_line(error), hint=hint) from None


def _name(entry: FileEntry) -> str:
    return entry.path.rpartition("/")[2]


def described(manifest: Manifest) -> str:
    """One line for the console."""
    passed: Mapping[str, int] = {reason: n for reason, n in manifest.content["passed_over"].items() if n}
    why = f"; passed over: {', '.join(f'{n:,} {reason}' for reason, n in passed.items())}" if passed else ""
    return f"published list {manifest.content['list']} {manifest.generation}: {manifest.rows:,} pairs{why}"
