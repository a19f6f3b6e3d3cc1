"""make bench-predict: the daily batch, Parquet to Parquet, at the paper's sizes: one process on each of two cores.

Ours in fp32 and bf16, with shared meta units and one per task, against scoring with the bmm twin. A line per variant;
the last line is one JSON object. Rows per second are those of two cores by their processor time, reading, sorting,
scoring and writing included, starting up and loading the model left out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.predict.day import write_day
from benchmarks.train.measure import matmul_rate
from benchmarks.train.run import ALLOCATOR, ROOT

CORES = 2
VARIANTS = {
    "fast shared bf16": "--form fast --shared --bf16",
    "fast task bf16": "--form fast --bf16",
    "fast shared": "--form fast --shared",
    "fast task": "--form fast",
    "bmm shared": "--form bmm --shared --limit 2048",
    "bmm shared bf16": "--form bmm --shared --bf16 --limit 2048",
}
SHORT, LONG = (f"fast shared bf16, {windows} windows" for windows in (4, 8))
"""What they need in memory is compared: the default window holds all of a file."""
TARGETS = {"rows_per_s": 4500, "rows_per_s_per_task": 3500, "vs_bmm": 20, "roofline_fraction": 0.6}
MOST_GROWTH = 1.05
"""Of the peak memory, with twice the rows."""


def measure(folder: Path, options: str, rates: Mapping[bool, float]) -> dict[str, float]:
    """Run the workers of one variant side by side; their figures together. ``rates``: by whether it is in bf16."""
    worker = [sys.executable, "-m", "benchmarks.predict.worker", "--folder", str(folder), *options.split()]
    worker += ["--rate", str(rates["--bf16" in options])]
    workers = [
        subprocess.Popen(
            ["taskset", "-c", str(core), *worker, "--part", str(part)],
            cwd=ROOT,
            env={**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for part, core in enumerate(sorted(os.sched_getaffinity(0))[:CORES])
    ]
    outcomes = [json.loads(one.communicate()[0].splitlines()[-1]) for one in workers]
    return {
        "rows_per_s": sum(one["rows"] / one["cpu_s"] for one in outcomes),
        "wall_rows_per_s": sum(one["rows"] / one["wall_s"] for one in outcomes),
        "peak_rss_mib": max(one["peak_rss_mib"] for one in outcomes),
        "roofline_fraction": min(one["roofline_fraction"] for one in outcomes),
        "largest_change": max(one["largest_change"] for one in outcomes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=65_536, help="of each of the two files, 2,048 at least")
    rows = parser.parse_args().rows
    windows = f"{VARIANTS['fast shared bf16']} --window {rows // 4}"
    measured = {}
    torch.set_num_threads(1)
    large = {bf16: matmul_rate(dtype) for bf16, dtype in ((False, torch.float32), (True, torch.bfloat16))}
    with tempfile.TemporaryDirectory() as folder:
        day, long_day = Path(folder) / "day", Path(folder) / "long"
        write_day(day, files=CORES, rows=rows)
        write_day(long_day, files=CORES, rows=2 * rows)
        places = {name: (day, options) for name, options in VARIANTS.items()}
        for name, (place, options) in (places | {SHORT: (day, windows), LONG: (long_day, windows)}).items():
            one = measured[name] = measure(place, options, large)
            print(
                f"{name:28s} {one['rows_per_s']:7.0f} rows/s ({one['wall_rows_per_s']:.0f} by the clock)"
                f"  {one['peak_rss_mib']:6.0f} MiB  {one['roofline_fraction']:.2f} of the matmul rate"
                f"  largest change by precision {one['largest_change']:.4f} of the label's unit",
                flush=True,
            )
    shared = measured["fast shared bf16"]
    figures = {
        "rows_per_s": shared["rows_per_s"],
        "rows_per_s_per_task": measured["fast task bf16"]["rows_per_s"],
        "rows_per_s_fp32": measured["fast shared"]["rows_per_s"],
        "rows_per_s_per_task_fp32": measured["fast task"]["rows_per_s"],
        "vs_bmm": shared["rows_per_s"] / measured["bmm shared bf16"]["rows_per_s"],
        "vs_bmm_fp32": measured["fast shared"]["rows_per_s"] / measured["bmm shared"]["rows_per_s"],
        "peak_rss_mib": shared["peak_rss_mib"],
        "peak_rss_mib_4_windows": measured[SHORT]["peak_rss_mib"],
        "peak_rss_mib_8_windows": measured[LONG]["peak_rss_mib"],
        "roofline_fraction": shared["roofline_fraction"],
    }
    for name, target in TARGETS.items():
        print(f"{name:20s} {figures[name]:8.2f}, target {target}: {'met' if figures[name] >= target else 'not met'}")
    growth = figures["peak_rss_mib_8_windows"] / figures["peak_rss_mib_4_windows"]
    print(
        f"memory, twice the rows {growth:6.2f}, target {MOST_GROWTH}: {'met' if growth <= MOST_GROWTH else 'not met'}"
    )
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
