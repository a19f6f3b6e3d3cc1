"""Growth with advertisers at the paper's shape: 387 days, 5 scenarios. Prints the table that docs/scale.md quotes.

``python -m benchmarks.etl.scale ADVERTISERS...`` builds one dataset per size and prints, per size, a line of the table.
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.etl.measure import run
from benchmarks.etl.rows import written
from benchmarks.etl.world import Shape, write_world

PARTICIPATION = (0.9, 0.06, 0.05, 0.35, 0.09)
"""Share of advertisers in each scenario, so that samples divide about as in Table 3: search is the head."""
ACTIVITY = 0.2
FACTS_PER_SHARD = 1_000_000
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
    for advertisers in arguments.advertisers:
        shutil.rmtree(arguments.folder, ignore_errors=True)
        shape, raw, out = shape_of(advertisers, arguments.stride), arguments.folder / "raw", arguments.folder / "out"
        facts = write_world(shape, raw)
        raw_bytes = sum(path.stat().st_size for path in raw.rglob("*.parquet"))
        result = run("ours", shape, raw=raw, out=out, logs=arguments.folder / "logs")
        found = written(out)
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


if __name__ == "__main__":
    main()
