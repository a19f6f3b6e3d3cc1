"""How far one large advertiser slows the build: event logs in which it holds a share of all events.

``python -m benchmarks.etl.skew`` builds from events twice, without and with the large advertiser, and prints for every
stage with more than a few tasks how long the slowest task took against the median one.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.etl.measure import Stage, run
from benchmarks.etl.world import BEHAVIOR, PERFORMANCE, Shape, write_world

EVENTS_PER_FACT = 4
FILES = 16
LEAST_TASKS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--advertisers", type=int, default=4_000)
    parser.add_argument("--share", type=float, default=0.2, help="of all events, held by one advertiser")
    parser.add_argument("--folder", type=Path, default=Path("out/bench-skew"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    shape = Shape(advertisers=arguments.advertisers, shards=LEAST_TASKS, events=True)
    for share in (0.0, arguments.share):
        raw, logs = arguments.folder / f"raw-{share}", arguments.folder / f"logs-{share}"
        write_world(shape, raw)
        events = write_events(shape, raw, share)
        result = run("ours", shape, raw=raw, out=arguments.folder / f"out-{share}", logs=logs)
        print(f"\nlargest advertiser holds {share:.0%} of {events:,} events: {result.seconds:.1f} s")
        print("| stage | tasks | median s | slowest s | slowest / median | shuffle MB |\n|---|---|---|---|---|---|")
        for stage in result.stages:
            if len(stage.seconds) >= LEAST_TASKS:
                print(_line(stage))


def _line(stage: Stage) -> str:
    median, slowest = float(np.median(stage.seconds)), max(stage.seconds)
    return (
        f"| {stage.number} | {len(stage.seconds)} | {median:.2f} | {slowest:.2f} | {stage.skew:.2f} "
        f"| {stage.shuffle_bytes / 1e6:.1f} |"
    )


def write_events(shape: Shape, raw: Path, share: float) -> int:
    """Replace the daily facts by events, ``share`` of them of one advertiser; returns their number."""
    facts = pa.concat_tables(pq.read_table(path) for path in sorted((raw / "daily").iterdir()))
    random = np.random.default_rng((shape.seed, 2))
    count = facts.num_rows * EVENTS_PER_FACT
    rows = random.integers(facts.num_rows, size=count)
    large = random.random(count) < share
    day = facts["day"].cast(pa.int32()).to_numpy()[rows]
    seconds = random.integers(86_400, size=count)
    columns = {
        "advertiser_id": pa.array(np.where(large, shape.advertisers // 2, facts["advertiser_id"].to_numpy()[rows])),
        "scenario_id": facts["scenario_id"].combine_chunks().take(pa.array(rows)),
        "day": pa.array((day.astype(np.int64) * 86_400 + seconds) * 1_000_000).cast(pa.timestamp("us", tz="UTC")),
    }
    for name in (*BEHAVIOR, *PERFORMANCE):
        columns[name] = pa.array(facts[name].to_numpy()[rows] // EVENTS_PER_FACT)
    shutil.rmtree(raw / "daily")
    (raw / "daily").mkdir()
    events = pa.table(columns)
    for number in range(FILES):
        part = events.slice(number * (count // FILES), count // FILES)
        pq.write_table(part, raw / "daily" / f"part-{number:02d}.parquet", compression="zstd")
    return int(count // FILES * FILES)


if __name__ == "__main__":
    main()
