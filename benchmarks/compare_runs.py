"""Compare what two runs of one configuration published: equal rows in, metrics and forecasts equal to rounding out.

``python -m benchmarks.compare_runs out/local out/cluster --date 2017-12-31`` prints a line each for the dataset, the
day's features, the metrics and the day's predictions, and exits with 1 if they differ by more than ``--tolerance``.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.schema import FORECASTS, KEYS, sorted_rows_hash
from m2m_model.contracts.store import Folder, Manifest, read_manifest
from training.published import parquet_files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, type=Path)
    parser.add_argument("--date", required=True, help="the predicted day")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative, of metrics and forecasts")
    arguments = parser.parse_args()
    day = f"dt={arguments.date}"
    differences = []
    for kind, part in (("dataset", "dataset"), ("features", f"features/{day}")):
        tables = [published_rows(run / part, kind) for run in arguments.runs]
        hashes = [sorted_rows_hash(table) for table in tables]
        differences.append(float(hashes[0] != hashes[1]))
        print(f"{kind}: {len(tables[0]):,} and {len(tables[1]):,} rows, hashes {hashes[0][:16]} and {hashes[1][:16]}")
    metrics = [metric_values(run / "report" / "metrics.csv") for run in arguments.runs]
    differences.append(largest_difference(*metrics))
    print(f"metrics: {len(metrics[0]):,} and {len(metrics[1]):,} values, largest difference {differences[-1]:.2e}")
    forecasts = [forecast_values(published_rows(run / "predictions" / day, "predictions")) for run in arguments.runs]
    differences.append(largest_difference(*forecasts))
    print(f"predictions: {len(forecasts[0]):,} and {len(forecasts[1]):,}, largest difference {differences[-1]:.2e}")
    return int(max(differences) > arguments.tolerance)


def published_rows(location: Path, kind: str) -> pa.Table:
    folder = Folder.at(location)
    manifest: Manifest = read_manifest(folder, kind=kind, build_hint="copy the run there")
    files = [folder.join(file.path) for file in parquet_files(manifest)]
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])


def metric_values(path: Path) -> dict[tuple[str, ...], float]:
    with path.open() as stream:
        return {
            (row["model"], row["scenario"], row["task"], row["forecast"], name): float(row[name])
            for row in csv.DictReader(stream)
            for name in ("nmae", "smape", "n")
        }


def forecast_values(table: pa.Table) -> dict[tuple[str, ...], float]:
    names = [name for name in table.column_names if name.endswith(tuple(f"_{forecast}" for forecast in FORECASTS))]
    keys = zip(*(map(str, table[key].to_pylist()) for key in KEYS), strict=True)
    rows = list(zip(keys, *(table[name].to_pylist() for name in names), strict=True))
    return {(*key, name): value for key, *values in rows for name, value in zip(names, values, strict=True)}


def largest_difference(one: dict[tuple[str, ...], float], other: dict[tuple[str, ...], float]) -> float:
    """Of values with equal keys, relative to 1 or to the value if that is larger; infinite if the keys differ."""
    if one.keys() != other.keys():
        return float("inf")
    left = np.array(list(one.values()))
    right = np.array([other[key] for key in one])
    unequal = ~((left == right) | (np.isnan(left) & np.isnan(right)))
    return float(np.max(np.abs(left - right)[unequal] / np.maximum(1.0, np.abs(left[unequal])), initial=0.0))


if __name__ == "__main__":
    sys.exit(main())
