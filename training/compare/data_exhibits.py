"""What a study's data are like: Table 1 (correlations between scenarios) and Table 3 (the dataset).

They are made where the study's dataset lies, and kept as CSV with the cells, so that the page can be made anywhere.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.spec import task_columns
from m2m_model.contracts.store import FileEntry, Folder, read_manifest
from training.compare.tables import markdown, to_csv
from training.correlations import scenario_correlations
from training.published import parquet_files, read_spec
from training.report.plots import correlations

TABLE1, TABLE3, PICTURE = "table1.csv", "table3.csv", "table1.svg"
TABLE1_COLUMNS = ("task", "scenario_a", "scenario_b", "raw", "log")
SPLITS = ("train", "validation", "test")


def write_data_exhibits(dataset: Path, folder: Path) -> None:
    """Table 1 (CSV and picture) of the test period's eligible rows, and Table 3 of all splits.

    Raises:
        UserError: ``dataset`` is not a published dataset.
    """
    published = Folder.at(dataset)
    manifest = read_manifest(published, kind="dataset", build_hint="run make compare first")
    spec = read_spec(published, manifest)
    folder.mkdir(parents=True, exist_ok=True)
    labels = tuple(task_columns(spec, "label"))
    sizes: list[dict[str, Any]] = []
    rows = pa.table({})
    for split in SPLITS:
        rows = _eligible(published, parquet_files(manifest, split=split), labels)
        sizes += _sizes(rows, split, spec.scenarios, labels)
    names = ("split", "scenario", "days", "advertisers", "samples", *(f"zero_{task}" for task in spec.task_names))
    raw, log = scenario_correlations(rows, spec.task_names, spec.scenarios)
    pairs = [
        {"task": task, "scenario_a": a, "scenario_b": b, "raw": float(raw[t, i, j]), "log": float(log[t, i, j])}
        for t, task in enumerate(spec.task_names)
        for i, a in enumerate(spec.scenarios)
        for j, b in enumerate(spec.scenarios[:i])
    ]
    (folder / TABLE1).write_text(to_csv(TABLE1_COLUMNS, pairs))
    (folder / PICTURE).write_text(correlations(raw, log, spec.task_names, spec.scenarios))
    (folder / TABLE3).write_text(to_csv(names, sizes))  # last: where it is, all are


def data_markdown(folder: Path) -> list[str]:
    """Sections of the exhibits' page from the kept CSV files; none if there are none."""
    if not (folder / TABLE3).exists():
        return []
    sizes = _read(folder / TABLE3)
    zeros = [name for name in sizes[0] if name.startswith("zero_")]
    heads = ("split, scenario", "as-of days", "advertisers", "samples", *(f"no {name[5:]}" for name in zeros))
    lines = [
        (
            f"{row['split']}, {row['scenario']}",
            *(f"{int(row[name]):,}" for name in ("days", "advertisers", "samples")),
            *(f"{float(row[name]):.0%}" for name in zeros),
        )
        for row in sizes
    ]
    return [
        "## Data (Table 3)",
        "Eligible samples; of each task the share whose label is 0.",
        markdown(heads, lines),
        "## Correlations between scenarios (Table 1)",
        f"Of labels in the test period, samples of one advertiser and day, raw / log; also in [{TABLE1}]({TABLE1}).",
        _correlations_markdown(_read(folder / TABLE1)),
        f"![correlations between scenarios]({PICTURE})",
    ]


def _correlations_markdown(pairs: Sequence[dict[str, str]]) -> str:
    """A line per pair of scenarios, a column per task."""
    tasks = tuple(dict.fromkeys(pair["task"] for pair in pairs))
    found = {(pair["scenario_a"], pair["scenario_b"], pair["task"]): pair for pair in pairs}
    lines = []
    for a, b in dict.fromkeys((pair["scenario_a"], pair["scenario_b"]) for pair in pairs):
        cells = [f"{float(found[a, b, t]['raw']):.2f} / {float(found[a, b, t]['log']):.2f}" for t in tasks]
        lines.append((f"{b}, {a}", *cells))
    return markdown(("scenarios", *tasks), lines)


def _eligible(folder: Folder, entries: Sequence[FileEntry], labels: Sequence[str]) -> pa.Table:
    columns = ["advertiser_id", "scenario_id", "as_of", "eligible", *labels]
    paths = [folder.join(entry.path) for entry in entries]
    rows = pa.concat_tables([pq.read_table(path, columns=columns, filesystem=folder.filesystem) for path in paths])
    return rows.filter(rows["eligible"])


def _sizes(rows: pa.Table, split: str, scenarios: Sequence[str], labels: Sequence[str]) -> list[dict[str, Any]]:
    names = np.array(rows["scenario_id"].to_pylist())
    sizes = []
    for scenario in scenarios:
        own = rows.filter(pa.array(names == scenario))
        zeros = {f"zero_{label.removeprefix('label_')}": float((own[label].to_numpy() == 0).mean()) for label in labels}
        about = {"split": split, "scenario": scenario, "samples": len(own)}
        counts = {"days": len(own["as_of"].unique()), "advertisers": len(own["advertiser_id"].unique())}
        sizes.append(about | counts | zeros)
    return sizes


def _read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
