"""Throughput of four workers of which one is four times slower, by way to synchronise.

Every worker sleeps 15 times as long as its gradients take the CPU, the slow one 63 times, before it hands them over: so
four workers fit on less than a core, and what else the machine does hardly counts. Rows/s of the second epoch. Last
line: one JSON object.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.scaling.group import Group, run
from benchmarks.scaling.presets import PRESETS, dataset
from training.config import TrainConfig

EVEN, ONE_SLOW = (15.0,) * 4, (15.0, 15.0, 15.0, 63.0)
MODES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "local_sgd": {"sync": "local_sgd", "sync_period": 8},
    "async": {"sync": "async", "staleness": 16},
    "async_tight": {"sync": "async", "staleness": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/bench/scaling"))
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    arguments = parser.parse_args()
    location = dataset(arguments.work, rows=arguments.rows, row_group_rows=128)
    groups = [
        Group(
            name=f"{mode}, {workers}",
            dataset=location,
            model=PRESETS["small"],
            train=TrainConfig.model_validate({"epochs": 2, "batch_size": arguments.batch_size, **MODES[mode]}),
            workers=4,
            shuffle_blocks=1,
            sleep=sleep,
        )
        for mode in arguments.modes
        for workers, sleep in (("even", EVEN), ("one slow", ONE_SLOW))
    ]
    outcomes = run(groups)
    result = {
        outcome.name: {"rows_per_s": round(outcome.rows_per_s[-1]), "staleness": outcome.staleness}
        for outcome in outcomes
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
