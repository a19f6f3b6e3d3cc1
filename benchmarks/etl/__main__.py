"""``make bench-etl``: the real dataset build beside plain PySpark, naive PySpark and Polars, and its growth.

Every contender runs once, on the same raw tables and the same two cores, in a process of its own, start-up included:
daily facts in, bucketized Parquet out, in the same codec and row groups. Each fits its own bucket edges, exactly. Their
rows must hash equally, or the run fails. The naive contender gets a tenth of the advertisers; it is compared with the
real build at that size. Growth is fitted to processor seconds, which a shared machine disturbs less. The last line of
output is one JSON object.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.etl.growth import scaling_exponent
from benchmarks.etl.measure import Run, Stage, run
from benchmarks.etl.rows import Written, written
from benchmarks.etl.world import Shape, write_world

FRACTIONS = (0.1, 0.25, 0.5, 1.0)
"""Sizes at which the growth of the real build is measured; the contenders meet at the last, the naive at the first."""


@dataclass(frozen=True)
class Result:
    run: Run
    written: Written

    @property
    def samples_per_s(self) -> float:
        return self.written.rows / self.run.seconds

    @property
    def cpu_per_sample(self) -> float:
        return self.run.cpu_seconds / self.written.rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--advertisers", type=int, default=42_000, help="of the largest size")
    parser.add_argument("--folder", type=Path, default=Path("out/bench-etl"), help="for raw tables and datasets")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    shapes = [Shape(advertisers=int(arguments.advertisers * fraction)) for fraction in FRACTIONS]
    sizes = [measured("ours", shape, arguments.folder) for shape in shapes]
    ours, small = sizes[-1], sizes[0]
    plain = measured("plain_spark", shapes[-1], arguments.folder)
    polars = measured("polars", shapes[-1], arguments.folder)
    naive = measured("naive_spark", shapes[0], arguments.folder)
    for name, other, reference in (("plain", plain, ours), ("polars", polars, ours), ("naive", naive, small)):
        if other.written.digest != reference.written.digest:
            sys.exit(f"error: the rows of {name} must equal those of the real build, however: their hashes differ")
    print_stages(ours.run.stages)
    rows = [size.written.rows for size in sizes]
    exponent, fixed = scaling_exponent(rows, [size.run.cpu_seconds for size in sizes])
    print(f"fixed cost {fixed:.1f} processor seconds, exponent {exponent:.3f}; all rows hash equally")
    print(
        json.dumps(
            {
                "samples": ours.written.rows,
                "samples_per_s": round(ours.samples_per_s),
                "vs_plain_spark": round(ours.samples_per_s / plain.samples_per_s, 2),
                "vs_naive_spark": round(small.samples_per_s / naive.samples_per_s, 2),
                "vs_polars": round(ours.samples_per_s / polars.samples_per_s, 2),
                "cpu_vs_plain_spark": round(plain.cpu_per_sample / ours.cpu_per_sample, 2),
                "cpu_vs_naive_spark": round(naive.cpu_per_sample / small.cpu_per_sample, 2),
                "cpu_vs_polars": round(polars.cpu_per_sample / ours.cpu_per_sample, 2),
                "scaling_exponent": round(exponent, 3),
                "shuffle_bytes": sum(stage.shuffle_bytes for stage in ours.run.stages),
                "spill_bytes": sum(stage.spill_bytes for stage in ours.run.stages),
                "peak_rss_mib": round(ours.run.peak_rss_mib),
                "bytes_per_sample": round(ours.written.bytes / ours.written.rows, 1),
                "naive_samples": naive.written.rows,
                "seconds": {
                    "ours": [round(size.run.seconds, 2) for size in sizes],
                    "ours_cpu": [round(size.run.cpu_seconds, 2) for size in sizes],
                    "plain_spark": round(plain.run.seconds, 2),
                    "naive_spark": round(naive.run.seconds, 2),
                    "polars": round(polars.run.seconds, 2),
                },
            }
        )
    )


def measured(contender: str, shape: Shape, folder: Path) -> Result:
    """Run one contender on the world of ``shape``, made if it is not there, and read back what it wrote."""
    raw = folder / f"raw-{shape.advertisers}"
    if not raw.exists():
        rows = write_world(shape, raw)
        print(f"raw tables of {shape.advertisers:,} advertisers: {rows:,} daily facts", flush=True)
    out, logs = folder / contender, folder / f"logs-{contender}-{shape.advertisers}"
    result = run(contender, shape, raw=raw, out=out, logs=None if contender == "polars" else logs)
    found = Result(result, written(out))
    shutil.rmtree(out)
    size, rows = found.written, found.written.rows
    print(
        f"{contender:12} {rows:>10,} samples  {result.seconds:7.2f} s  {result.cpu_seconds:7.2f} cpu s  "
        f"{found.samples_per_s:>9,.0f} /s  peak {result.peak_rss_mib:6,.0f} MiB  {size.bytes / rows:6.1f} B/sample  "
        f"{size.files} files, {size.row_groups} row groups, {'/'.join(size.codecs)}",
        flush=True,
    )
    return found


def print_stages(stages: Sequence[Stage]) -> None:
    """Spark's stages of the real build: what asked for them, and what their tasks took and moved."""
    print("| stage | asked for by | tasks | task s | MB in | MB shuffled | MB spilled |\n|---|---|---|---|---|---|---|")
    for stage in stages:
        moved = (stage.input_bytes, stage.shuffle_bytes, stage.spill_bytes)
        megabytes = " | ".join(f"{size / 1e6:.1f}" for size in moved)
        print(f"| {stage.number} | {stage.name} | {len(stage.seconds)} | {sum(stage.seconds):.1f} | {megabytes} |")


if __name__ == "__main__":
    main()
