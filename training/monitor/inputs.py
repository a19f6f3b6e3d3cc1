"""What a night was made from: how far its features lie from training, how fresh and how much its inputs are."""

import datetime
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np
import pyarrow.parquet as pq

from m2m_model.contracts.drift import HISTOGRAMS, Histograms, index_by_chance
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec
from m2m_model.contracts.store import MANIFEST, Folder, Manifest, below, read_manifest
from training.monitor.report import Drift, Inputs, ScenarioVolume, TableVolume, number
from training.published import newest_input_days, parquet_files, read_spec, tables_without_files

WEEKS_BEFORE = 4
DAY = datetime.timedelta(days=1)
MISSING = "the features of {date} are not published"


def read_drift(features: str, date: datetime.date, *, trained_on: str) -> Drift:
    """PSI of every feature of a day against the training rows; ``trained_on``: location of the dataset's spec.json."""
    folder = Folder.at(below(features, f"dt={date}"))
    if not folder.exists(MANIFEST):
        return Drift(missing=MISSING.format(date=date))
    manifest = read_manifest(folder, kind="features", build_hint="")
    spec, trained_spec = read_spec(folder, manifest), DatasetSpec.read(trained_on)
    if spec.feature_fingerprint != trained_spec.feature_fingerprint:
        return Drift(missing=f"the features of {date} are of another spec than {trained_on}")
    trained, entries = Histograms.beside(trained_on, trained_spec), manifest.select(role="histograms")
    if trained is None or not entries:
        return Drift(missing=f"there is no {HISTOGRAMS} beside {trained_on if trained is None else folder.uri}")
    found = Histograms.from_json(folder.read_bytes(entries[0].path), source=folder.uri, spec=spec)
    before, (now,) = trained.splits["train"], found.splits.values()
    psi = {name: value for of_split in found.drift(trained).values() for name, value in of_split.items()}
    beyond = {name: max(value - index_by_chance(before[name], now[name]), 0.0) for name, value in psi.items()}
    return Drift(
        psi={name: number(value) for name, value in sorted(beyond.items(), key=lambda item: -item[1])},
        unseen=_unseen(before, now),
    )


def _unseen(trained: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]) -> dict[str, float | None]:
    shares = {
        name: sum(count for before, count in zip(trained[name], counts, strict=True) if not before) / sum(counts)
        for name, counts in found.items()
        if sum(counts)
    }
    return {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share}


def read_inputs(features: str, date: datetime.date, *, days_compared: int) -> Inputs:
    """Freshness and volume of a day beside the earlier days that are published."""
    folder = Folder.at(below(features, f"dt={date}"))
    if not folder.exists(MANIFEST):
        return Inputs(missing=MISSING.format(date=date))
    manifest = read_manifest(folder, kind="features", build_hint="")
    earlier = [
        _rows(read_manifest(before, kind="features", build_hint=""))
        for days in range(1, days_compared + 1)
        if (before := Folder.at(below(features, f"dt={date - days * DAY}"))).exists(MANIFEST)
    ]
    activity, active = _activity(folder, manifest)
    known = sorted({scenario for day in earlier for scenario in day})
    return Inputs(
        built_at=manifest.created_at,
        days_compared=len(earlier),
        newest_day=newest_input_days(manifest),
        without_files=tables_without_files(manifest),
        dropped=manifest.content.get("dropped", {}),
        tables={table: _of_newest_day(rows) for table, rows in manifest.content.get("rows_by_day", {}).items()},
        scenarios={
            scenario: ScenarioVolume(
                rows=rows,
                usual_rows=median(day.get(scenario, 0) for day in earlier) if earlier else None,
                active_rows=active.get(scenario, 0),
                activity=activity.get(scenario, {}),
            )
            for scenario, rows in sorted({**dict.fromkeys(known, 0), **_rows(manifest)}.items())
        },
    )


def _rows(manifest: Manifest) -> dict[str, int]:
    rows: dict[str, int] = manifest.content.get("rows_by_scenario", {}).get("features", {})
    return rows


def _of_newest_day(rows: Mapping[str, int]) -> TableVolume:
    """``rows`` by date: of the newest day, and of the days that it is compared with."""
    newest = max(rows)
    earlier = [count for date, count in rows.items() if date != newest]
    return TableVolume(rows=rows[newest], usual_rows=median(earlier) if earlier else None)


def _activity(folder: Folder, manifest: Manifest) -> tuple[dict[str, dict[str, float | None]], dict[str, int]]:
    """By scenario and task, the newest week's sum over the mean of the weeks before it; by scenario, rows with any."""
    spec = read_spec(folder, manifest)
    tasks = [task.name for task in spec.tasks if task.kind in AMOUNTS]
    before = min(WEEKS_BEFORE, spec.history_weeks - 1)
    if not tasks or not before:
        return {}, {}
    sums: dict[str, np.ndarray] = {}
    active: dict[str, int] = {}
    for entry in parquet_files(manifest):
        with folder.filesystem.open_input_file(folder.join(entry.path)) as stream:
            table = pq.read_table(stream, columns=["scenario_id", *(f"history_{task}" for task in tasks)])
        names, position = np.unique(np.array(table["scenario_id"].to_pylist(), str), return_inverse=True)
        flat = [table[f"history_{task}"].combine_chunks().flatten().to_numpy() for task in tasks]
        weeks = np.stack([of_task.reshape(-1, spec.history_size)[:, : before + 1] for of_task in flat], axis=1)
        for scenario, name in enumerate(map(str, names)):
            chosen = weeks[position == scenario]
            sums[name] = sums.get(name, 0.0) + chosen.sum(axis=0)
            active[name] = active.get(name, 0) + int((chosen > 0).any(axis=(1, 2)).sum())
    changes = {
        scenario: {
            task: number(newest / usual) if usual > 0 else None
            for task, newest, usual in zip(tasks, totals[:, 0], totals[:, 1:].mean(axis=1), strict=True)
        }
        for scenario, totals in sums.items()
    }
    return changes, active
