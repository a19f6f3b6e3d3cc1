"""Measure one contender in this process; prints one JSON object.

Rows per second are those after the first batch, of as many epochs as the time holds, so that starting up and time to
the first batch count once, on their own, and what was read ahead of it hardly counts. CPU seconds are those of this
process and all that it started, the first batch included.
"""

import argparse
import itertools
import json
import os
import time

import torch

from benchmarks.processes import cpu_s
from benchmarks.readers.contenders import CONTENDERS
from m2m_model.contracts.store import Folder, read_manifest
from training.published import read_spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contender", choices=CONTENDERS, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=15.0, help="of reading")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Folder.at(arguments.dataset)
    spec = read_spec(folder, read_manifest(folder, kind="dataset", build_hint="build it first"))
    if arguments.contender == "ray_data":
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    started, used = time.perf_counter(), cpu_s(os.getpid())
    epochs = (CONTENDERS[arguments.contender](arguments.dataset, spec, arguments.batch_size) for _ in itertools.count())
    batches = itertools.chain.from_iterable(epochs)
    next(batches)
    first = ended = time.perf_counter()
    rows = 0
    while ended - first < arguments.seconds:
        rows += len(next(batches))
        ended = time.perf_counter()
    result = {
        "rows_per_s": round(rows / (ended - first)),
        "rows_per_cpu_s": round(rows / (cpu_s(os.getpid()) - used)),
        "first_batch_s": round(first - started, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
