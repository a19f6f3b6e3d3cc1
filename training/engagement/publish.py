"""A day's lists, published one by one beside its predictions."""

import datetime
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from m2m_model.contracts.store import (
    Folder,
    Manifest,
    below,
    data_path,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)
from training.engagement.config import ListConfig
from training.engagement.day import PredictedDay, read_rows
from training.engagement.inputs import KIND, excluded_advertisers, later_lists, list_inputs, recent_lists
from training.engagement.selection import Obstacles, Selection, cooling_pairs
from training.scoring import write_parquet


def publish_list(
    name: str,
    rule: ListConfig,
    *,
    date: datetime.date,
    features: str,
    predictions: str,
    lists: str,
    grace_seconds: float,
    among: Collection[str] | None = None,
) -> Manifest:
    """Select list ``name`` of as-of day ``date`` and publish it at ``<lists>/<name>/dt=<date>``, replacing that day.

    Args:
        features, predictions: the day's published folders.
        lists: folder of all lists; the recent days of this one there are what cools down, and the days after, where
            a missed day is made up for. Only the recent ones decide whether the list is still current.
        among: the advertisers that alone are in question, an arm of an experiment; None: all.

    Raises:
        UserError: the day is not predicted, or predictions and features are not of one another.
    """
    inputs = list_inputs(name, rule, date=date, lists=lists, among=among)
    day = PredictedDay.at(features, predictions)
    obstacles = Obstacles(
        excluded=pa.array(excluded_advertisers(rule), pa.string()),
        cooling=_cooling(
            recent_lists(name, rule, date=date, lists=lists) | later_lists(name, rule, date=date, lists=lists)
        ),
        among=None if among is None else pa.array(sorted(among), pa.string()),
    )
    selection = Selection(rule=rule, spec=day.spec(), obstacles=obstacles)
    for rows, forecasts in day.tables(["eligible", "active_days", *(f"history_{t}" for t in rule.minimum_scale)], None):
        selection.add(rows, forecasts)
    content = {
        "list": name,
        **inputs,
        "passed_over": selection.passed_over,
        "predictions_generation": day.scored.generation,
        "model_version": day.scored.content["model_version"],
    }
    return publish_pairs(below(lists, name, f"dt={date}"), selection.table(), content, grace_seconds=grace_seconds)


def publish_pairs(out: str, table: pa.Table, content: Mapping[str, Any], *, grace_seconds: float) -> Manifest:
    """Publish a list's pairs at ``out``, replacing what was there."""
    folder, generation = Folder.at(out), new_generation()
    entry = write_parquet(folder, data_path(generation, "part-0.parquet"), table.schema, iter([table]), partition={})
    manifest = Manifest(
        kind=KIND,
        generation=generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=(entry,),
        content=dict(content),
    )
    publish(folder, manifest)
    remove_superseded(folder, live=generation, grace_seconds=grace_seconds)
    return manifest


def _cooling(recent: Mapping[str, Folder]) -> frozenset[tuple[str, str]]:
    tables: dict[str, pa.Table] = {}
    for day in recent.values():
        for entry in read_manifest(day, kind=KIND, build_hint="select that day again").files:
            tables[entry.path] = read_rows(day, entry, ["advertiser_id", "scenario_id"])
    return cooling_pairs(tables)


def described(manifest: Manifest) -> str:
    """One line for the console."""
    passed: Mapping[str, int] = {reason: n for reason, n in manifest.content["passed_over"].items() if n}
    why = f"; passed over: {', '.join(f'{n:,} {reason}' for reason, n in passed.items())}" if passed else ""
    return f"published list {manifest.content['list']} {manifest.generation}: {manifest.rows:,} pairs{why}"
