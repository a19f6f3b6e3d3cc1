"""``make bench-readers``: every reader, each in a process (petastorm: an environment) of its own, on two row shapes.

Prints a table and, last, one JSON object: per shape and contender rows/s, rows per CPU-second of all processes, seconds
to the first batch, peak memory of all processes; what training consumes; and the default
reader's rows/s in multiples of that.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import memory_bytes
from benchmarks.readers.contenders import CONTENDERS
from benchmarks.synthetic import Shape, make_spec, write_dataset

SHAPES = {
    "paper": Shape(),
    "demo": Shape(
        behavior=8, performance=11, dense_columns=4, buckets=16, profile=(10, 27, 6, 3, 12), attributes=(3,) * 9
    ),
}
"""The paper's rows, and rows shaped as the demo's (jobs/configs/complete_journey.toml)."""
BATCH_SIZE = {"paper": 256, "demo": 512}
ROWS = 131_072
STREAMING = ("parquet", "ray_data", "petastorm", "hf_datasets")
PETASTORM = ".venv-petastorm/bin/python"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/bench/readers"))
    parser.add_argument("--petastorm", default=PETASTORM, help="Python of petastorm's environment")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--demo-dataset", default="", help="a published dataset to take for the demo's rows")
    parser.add_argument("--paper-rate", type=float, default=938.0, help="rows/s that training consumes at paper size")
    parser.add_argument("--demo-rate", type=float, default=8400.0, help="rows/s that training consumes at demo size")
    parser.add_argument("--seconds", type=float, default=15.0, help="of reading, for each contender and shape")
    arguments = parser.parse_args()
    consumed = {"paper": arguments.paper_rate, "demo": arguments.demo_rate}
    result: dict[str, Any] = {"consumed_rows_per_s": consumed}
    for shape in SHAPES:
        location = arguments.demo_dataset if shape == "demo" and arguments.demo_dataset else _dataset(shape, arguments)
        result[shape] = measured = {}
        for name in arguments.contenders:
            measured[name] = one = _measure(name, location, BATCH_SIZE[shape], arguments)
            print(f"{shape:6} {name:24} " + "  ".join(f"{key} {value:>9}" for key, value in one.items()), flush=True)
        result[f"{shape}_times_consumption"] = round(measured["parquet"]["rows_per_s"] / consumed[shape], 1)
        streaming = {name: one["rows_per_s"] for name, one in measured.items() if name in STREAMING}
        result[f"{shape}_fastest_streaming"] = max(streaming, key=lambda name: streaming[name])
    print(json.dumps(result))


def _dataset(shape: str, arguments: argparse.Namespace) -> str:
    location = str(arguments.work / shape)
    if not Path(location, "manifest.json").exists():
        rows = {"train": ROWS, "validation": 256}
        write_dataset(location, make_spec(SHAPES[shape]), rows=rows, rows_per_file=ROWS // 8, row_group_rows=2048)
    return location


def _measure(name: str, location: str, batch_size: int, arguments: argparse.Namespace) -> dict[str, float]:
    python = arguments.petastorm if name == "petastorm" else sys.executable
    command = [python, "-m", "benchmarks.readers.measure", "--contender", name, "--dataset", location]
    command += ["--batch-size", str(batch_size), "--seconds", str(arguments.seconds)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    peak: list[int] = [0]
    watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
    watcher.start()
    output, errors = process.communicate(timeout=300)
    if process.returncode:
        sys.exit(f"{name} failed:\n{errors}")
    watcher.join()
    return {**json.loads(output.splitlines()[-1]), "peak_mib": peak[0] >> 20}


def _watch(process: "subprocess.Popen[str]", peak: list[int]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], memory_bytes(process.pid))
        time.sleep(0.2)


if __name__ == "__main__":
    main()
