"""Growth with advertisers at the paper's shape (387 days, 5 scenarios), and what it means for 1.83 million of them.

``python -m benchmarks.etl.scale ADVERTISERS...`` builds one dataset per size and prints a line of a table for each, and
with two sizes or more the plan of docs/scale.md: processor seconds on a line through them, divided among executors.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.etl.measure import run
from benchmarks.etl.rows import written
from benchmarks.etl.world import Shape, write_world

PARTICIPATION = (0.9, 0.06, 0.05, 0.35, 0.09)
"""Share of advertisers in each scenario, so that samples divide about as in Table 3: search is the head."""
ACTIVITY = 0.2
FACTS_PER_SHARD = 1_000_000
PAPER_ADVERTISERS = 1_830_000
EXECUTORS = (4, 8, 16, 32, 64)
CORES_PER_EXECUTOR = 4
USEFUL = 0.7
"""Share of the cores' time in useful work: the last wave of tasks, stragglers, waiting for disks and network."""
START_UP_SECONDS = 60
COLUMNS = (
    "advertisers",
    "facts",
    "raw MB",
    "shards",
    "samples",
    "seconds",
    "cpu s",
    "shuffle MB",
    "spill MB",
    "peak MiB",
    "B/sample",
)


def shape_of(advertisers: int, stride: int) -> Shape:
    facts = advertisers * sum(PARTICIPATION) * ACTIVITY * 387
    return Shape(
        advertisers=advertisers,
        days=387,
        participation=PARTICIPATION,
        activity=ACTIVITY,
        stride=stride,
        shards=max(2, round(facts / FACTS_PER_SHARD)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("advertisers", type=int, nargs="+")
    parser.add_argument("--stride", type=int, default=28, help="days between as-of days")
    parser.add_argument("--folder", type=Path, default=Path("out/bench-scale"))
    arguments = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    cpu_seconds = []
    for advertisers in arguments.advertisers:
        shutil.rmtree(arguments.folder, ignore_errors=True)
        shape, raw, out = shape_of(advertisers, arguments.stride), arguments.folder / "raw", arguments.folder / "out"
        facts = write_world(shape, raw)
        raw_bytes = sum(path.stat().st_size for path in raw.rglob("*.parquet"))
        result = run("ours", shape, raw=raw, out=out, logs=arguments.folder / "logs")
        found = written(out)
        cpu_seconds.append(result.cpu_seconds)
        shuffled, spilled = (sum(getattr(s, f"{kind}_bytes") for s in result.stages) for kind in ("shuffle", "spill"))
        line = (
            f"{advertisers:,}",
            f"{facts:,}",
            f"{raw_bytes / 1e6:,.0f}",
            f"{shape.shards}",
            f"{found.rows:,}",
            f"{result.seconds:.1f}",
            f"{result.cpu_seconds:.1f}",
            f"{shuffled / 1e6:,.0f}",
            f"{spilled / 1e6:,.0f}",
            f"{result.peak_rss_mib:,.0f}",
            f"{found.bytes / found.rows:.0f}",
        )
        print(f"| {' | '.join(line)} |", flush=True)
    if len(cpu_seconds) > 1:
        print_plan(arguments.advertisers, cpu_seconds)


def print_plan(advertisers: Sequence[int], cpu_seconds: Sequence[float]) -> None:
    """Hours on N executors: start-up, and a line's slope times the advertisers over the cores in useful work."""
    slope, fixed = np.polyfit(advertisers, cpu_seconds, 1, w=1 / np.asarray(cpu_seconds))
    work = slope * PAPER_ADVERTISERS
    print(
        f"\n{fixed:.0f} processor s and {slope * 1e3:.1f} more per 1,000 advertisers: {work / 3600:.1f} processor hours"
    )
    print(f"for {PAPER_ADVERTISERS:,}\n\n| executors of {CORES_PER_EXECUTOR} cores | minutes |\n|---|---|")
    for executors in EXECUTORS:
        seconds = START_UP_SECONDS + work / (executors * CORES_PER_EXECUTOR * USEFUL)
        print(f"| {executors} | {seconds / 60:.0f} |")


if __name__ == "__main__":
    main()
