"""A day's lists, published one by one beside its predictions.

A list that is made again keeps, beside its pairs, those that an earlier version of the day named and it does not:
somebody may have told them by then, so that they cool down too.
"""

import datetime
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pyarrow as pa

from m2m_model.contracts.store import (
    MANIFEST,
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
from training.engagement.day import PredictedDay
from training.engagement.inputs import KIND, excluded_advertisers, later_lists, list_inputs, recent_lists
from training.engagement.selection import Obstacles, Pair, Selection, pairs
from training.published import parquet_files, read_rows
from training.scoring import write_parquet

WITHDRAWN = "withdrawn"
"""Role of the file of pairs that the day's earlier versions named; Parquet readers of a folder pass over its name."""
HINT = "select that day again"


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
        cooling=_named(
            (
                recent_lists(name, rule, date=date, lists=lists) | later_lists(name, rule, date=date, lists=lists)
            ).values()
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
    out, table = below(lists, name, f"dt={date}"), selection.table()
    return publish_pairs(out, table, content, grace_seconds=grace_seconds, withdrawn=_withdrawn(out, table))


def publish_pairs(
    out: str, table: pa.Table, content: Mapping[str, Any], *, grace_seconds: float, withdrawn: Collection[Pair] = ()
) -> Manifest:
    """Publish a list's pairs at ``out``, replacing what was there, and those that are withdrawn, if any."""
    folder, generation = Folder.at(out), new_generation()
    entry = write_parquet(folder, data_path(generation, "part-0.parquet"), table.schema, iter([table]), partition={})
    files = [entry]
    if withdrawn:
        written = folder.write_bytes(
            data_path(generation, f"_{WITHDRAWN}.json"), json.dumps(sorted(withdrawn)).encode()
        )
        files.append(written.model_copy(update={"partition": {"role": WITHDRAWN}}))
    manifest = Manifest(
        kind=KIND,
        generation=generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=tuple(files),
        content=dict(content),
    )
    publish(folder, manifest)
    remove_superseded(folder, live=generation, grace_seconds=grace_seconds)
    return manifest


def _withdrawn(out: str, table: pa.Table) -> frozenset[Pair]:
    """What the list at ``out`` and its earlier versions name, and ``table``, which replaces it, does not."""
    folder = Folder.at(out)
    return _named([folder]) - pairs(table) if folder.exists(MANIFEST) else frozenset()


def _named(days: Iterable[Folder]) -> frozenset[Pair]:
    """All pairs that any version of the lists of ``days`` named."""
    named: set[Pair] = set()
    for folder in days:
        manifest = read_manifest(folder, kind=KIND, build_hint=HINT)
        for entry in parquet_files(manifest):
            named |= pairs(read_rows(folder, entry, ["advertiser_id", "scenario_id"]))
        for entry in manifest.select(role=WITHDRAWN):
            named |= {(advertiser, scenario) for advertiser, scenario in json.loads(folder.read_file(entry, hint=HINT))}
    return frozenset(named)


def described(manifest: Manifest) -> str:
    """One line for the console."""
    passed: Mapping[str, int] = {reason: n for reason, n in manifest.content["passed_over"].items() if n}
    why = f"; passed over: {', '.join(f'{n:,} {reason}' for reason, n in passed.items())}" if passed else ""
    return f"published list {manifest.content['list']} {manifest.generation}: {manifest.rows:,} pairs{why}"
