"""From packed facts to a published generation: the kernel in every task, the manifest last."""

import datetime
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from etl.attributes import AttributeTable
from etl.config import EtlConfig
from etl.facts import Source
from etl.plan import AsOf, WindowPlan
from etl.raw import RawFrames
from etl.replay import difference_table
from etl.split import SPLITS
from etl.statistics import Statistics
from etl.writer import RESULT_SCHEMA, WriteJob, write_partition
from m2m_model.contracts.drift import HISTOGRAMS, Histograms
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, Manifest, data_path, new_generation, publish, remove_superseded


def window_plan(
    config: EtlConfig,
    spec: DatasetSpec,
    sources: tuple[Source, ...],
    tables: RawFrames,
    attributes: AttributeTable,
    as_of: Sequence[AsOf],
    *,
    labels: bool,
    replay: bool = False,
) -> WindowPlan:
    """What the kernel needs to know of the run."""
    ids, live = attributes.ids(spec.scenario_attributes, [a.date for a in as_of], tables.scenario_ids)
    held_out = np.isin(tables.scenario_ids, config.split.hold_out)
    live &= ~(held_out & np.array([[a.split in ("train", "validation")] for a in as_of]))
    return WindowPlan(
        spec=spec,
        sources=sources,
        scenarios=tables.scenario_ids,
        as_of=tuple(as_of),
        last_day=(config.raw.last_day - config.raw.first_day).days,
        attribute_ids=ids,
        live=live,
        labels=labels,
        replay=replay,
    )


def write_job(config: EtlConfig, plan: WindowPlan, out: str) -> WriteJob:
    """A new generation below ``out``."""
    return WriteJob(
        plan=plan,
        folder=Folder.at(out).uri,
        generation=new_generation(),
        row_group_rows=config.dataset.row_group_rows,
        compression=config.dataset.compression,
    )


def write_rows(packed: DataFrame, job: WriteJob) -> list[Row]:
    """The kernel in every task; returns a row per written file."""
    rows: list[Row] = (
        packed.where(F.col("facts").isNotNull())
        .select("facts")
        .mapInArrow(partial(write_partition, job=job), RESULT_SCHEMA)
        .collect()
    )
    if not rows:
        raise UserError(
            "no advertiser is eligible on any as-of day, so there is nothing to publish: "
            "check the raw dates, population.min_active_days and the split"
        )
    return rows


def with_label_statistics(spec: DatasetSpec, results: Sequence[Row]) -> DatasetSpec:
    """The spec with every task's mean and largest training label."""
    train = [row for row in results if json.loads(row.entry)["partition"]["split"] == "train"]
    rows = sum(json.loads(row.entry)["rows"] for row in train)
    if rows == 0:
        raise UserError("no advertiser is eligible on a training day: check the split and population.min_active_days")
    sums = [sum(column) for column in zip(*(json.loads(row.label_sums) for row in train), strict=True)]
    maxima = [max(column) for column in zip(*(json.loads(row.label_maxima) for row in train), strict=True)]
    tasks = [
        task.model_copy(update={"mean_label": total / rows, "max_label": largest})
        for task, total, largest in zip(spec.tasks, sums, maxima, strict=True)
    ]
    return spec.model_copy(update={"tasks": tuple(tasks)})


def replay_difference(spec: DatasetSpec, results: Sequence[Row]) -> list[dict[str, Any]]:
    """How features as known on their day differ from matured ones, over all rows of a replaying build."""
    return difference_table(spec, np.sum([json.loads(row.differences) for row in results], axis=0))


def publish_rows(
    out: str,
    kind: Literal["dataset", "features", "labels"],
    job: WriteJob,
    spec: DatasetSpec,
    results: Sequence[Row],
    config: EtlConfig,
    content: Mapping[str, Any],
    extra: Sequence[FileEntry] = (),
    *,
    trained_on: Histograms | None = None,
) -> Manifest:
    """Swap in the manifest of what ``results`` says was written; ``content`` and ``extra`` files are added to it.

    ``trained_on``: histograms that the drift of a feature day is measured from; a dataset's own are the default.
    """
    folder = Folder.at(out)
    statistics = Statistics.merged(spec, (row.statistics for row in results if row.statistics))
    histograms = statistics.histograms()
    sides = {"spec": ("spec.json", spec.to_json()), "histograms": (HISTOGRAMS, histograms.model_dump_json())}
    entries = [
        folder.write_bytes(data_path(job.generation, name), text.encode()).model_copy(
            update={"partition": {"role": role}}
        )
        for role, (name, text) in sides.items()
    ]
    files = sorted((FileEntry.model_validate_json(row.entry) for row in results), key=_file_order)
    manifest = Manifest(
        kind=kind,
        generation=job.generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=(*entries, *extra, *files),
        content={
            "feature_fingerprint": spec.feature_fingerprint,
            "rows_by_scenario": _rows_by_scenario(results),
            **({"key_multiplicity": statistics.keys.summary()} if kind == "dataset" else {}),
            "drift": histograms.drift(trained_on),
            **content,
        },
    )
    publish(folder, manifest)
    if kind == "dataset":
        for name, text in sides.values():  # copies for people and for --spec; readers take what the manifest lists
            folder.replace_bytes(name, text.encode())
    remove_superseded(folder, live=job.generation, grace_seconds=config.dataset.grace_seconds)
    return manifest


def _rows_by_scenario(results: Sequence[Row]) -> dict[str, dict[str, int]]:
    rows: dict[str, dict[str, int]] = {}
    for row in results:
        split = json.loads(row.entry)["partition"].get("split", "features")
        for scenario, count in json.loads(row.scenario_rows).items():
            counts = rows.setdefault(split, {})
            counts[scenario] = counts.get(scenario, 0) + count
    return rows


def _file_order(entry: FileEntry) -> tuple[Any, ...]:
    return (
        SPLITS.index(entry.partition["split"]) if entry.partition.get("split") in SPLITS else 0,
        entry.partition["dt"],
        entry.path,
    )
