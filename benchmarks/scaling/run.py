"""``make bench-scaling``: one and two workers on two cores, and the curve to 40 machines of 15 cores.

Runs of one and of two workers alternate, and each takes its fastest epoch; on a machine that others use too the numbers
mean little. ``speedup_2_workers_by_cpu_time`` is then the better guess: 2 x rows per CPU-second of two workers over
those of one, what two quiet cores would give if neither worker ever waited for the other. Both are of the same rows a
step, which each of two workers has half of; smaller steps can be faster by the row, so that
``speedup_2_workers_same_rows_each`` sets two workers beside one with half the rows a step. Writes the picture, prints
a line per run and, last, one JSON object with these.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmarks.scaling.curve import Here, draw, paper_loads
from benchmarks.scaling.group import Group, run
from benchmarks.scaling.network import Network, Workload
from benchmarks.scaling.presets import PRESETS, dataset
from m2m_model.config import ModelConfig
from m2m_model.contracts.store import Folder, read_manifest
from m2m_model.zoo.registry import build_model
from training.config import TrainConfig
from training.published import read_spec

EPOCHS = 3
PAPER_SAMPLES, PAPER_EPOCHS = 34_000_000, 10
PEER_RATE = 28.0
"""Rows per core-second of deep-rec-kit 1.0.2 at the paper's sizes, shared meta units, one tower layer."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("out/bench/scaling"))
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--rows", type=int, default=8_192)
    parser.add_argument("--batch-size", type=int, default=1024, help="rows per step over all workers")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--set", default="{}", help="JSON of further train options, such as all_reduce")
    parser.add_argument("--shared-rate", type=float, default=172.0, help="rows per core-second at the paper's sizes")
    parser.add_argument("--per-task-rate", type=float, default=53.0)
    parser.add_argument("--picture", type=Path, default=Path("out/bench/scaling/curve.png"))
    parser.add_argument("--by-cpu-time", action="store_true", help="draw what CPU time says, on a busy machine")
    arguments = parser.parse_args()
    location = dataset(arguments.work, rows=arguments.rows, row_group_rows=512)
    model = PRESETS[arguments.preset]
    train = TrainConfig(epochs=EPOCHS, early_stopping_patience=EPOCHS, batch_size=arguments.batch_size)
    train = TrainConfig.model_validate(train.model_dump() | json.loads(arguments.set))
    half = train.model_copy(update={"batch_size": train.batch_size // 2})
    groups = {
        "1": Group(name="1 worker", dataset=location, model=model, train=train, workers=1),
        "2": Group(name="2 workers", dataset=location, model=model, train=train, workers=2),
        "1, half the step": Group(name="1 worker, half the step", dataset=location, model=model, train=half, workers=1),
    }
    best, by_cpu = dict.fromkeys(groups, 0.0), dict.fromkeys(groups, 0.0)
    for _ in range(arguments.repeats):
        for name, group in groups.items():
            outcome = run([replace(group, pinned=True, shuffle_blocks=1)])[0]
            best[name] = max(best[name], *outcome.rows_per_s[1:])
            by_cpu[name] = max(by_cpu[name], outcome.rows_per_cpu_s)
    parameters = count_parameters(location, model)
    reduce_s = {kind: all_reduce_s(parameters, kind) for kind in ("fp32", "bf16")}
    result: dict[str, Any] = {
        "preset": arguments.preset,
        "batch_size": arguments.batch_size,
        "parameters": parameters,
        "gradient_mib": round(parameters * 4 / 2**20, 1),
        "all_reduce_s": {kind: round(seconds, 4) for kind, seconds in reduce_s.items()},
        "rows_per_s": {name: round(rate) for name, rate in best.items()},
        "speedup_2_workers": round(best["2"] / best["1"], 3),
        "speedup_2_workers_same_rows_each": round(best["2"] / best["1, half the step"], 3),
        "rows_per_cpu_s": {name: round(rate) for name, rate in by_cpu.items()},
        "speedup_2_workers_by_cpu_time": round(2 * by_cpu["2"] / by_cpu["1"], 3),
    }
    # Two workers' ring sends as many bytes as there are, each way.
    link = Network(latency_s=0.0, bytes_per_s=parameters * 4 / reduce_s["fp32"])
    measured = {1: by_cpu["1"], 2: 2 * by_cpu["2"]} if arguments.by_cpu_time else {1: best["1"], 2: best["2"]}
    alone = Workload(
        parameters=parameters, rows_per_step=arguments.batch_size // 2, rows_per_core_s=measured[1], cores=1
    )
    loads = paper_loads(
        shared=arguments.shared_rate,
        per_task=arguments.per_task_rate,
        shared_parameters=count_parameters(location, PRESETS["paper_shared"]),
        per_task_parameters=count_parameters(location, PRESETS["paper_per_task"]),
    )
    arguments.picture.parent.mkdir(parents=True, exist_ok=True)
    result["efficiency_at_40"] = draw(Here(load=alone, network=link, rows_per_s=measured), loads, arguments.picture)
    rates = {"shared": arguments.shared_rate, "per_task": arguments.per_task_rate, "peer": PEER_RATE}
    result["core_hours_of_a_paper_sized_run"] = {name: round(core_hours(rate)) for name, rate in rates.items()}
    print(json.dumps(result))


def core_hours(rows_per_core_s: float) -> float:
    """Of the paper's samples and epochs, communication left out."""
    return PAPER_SAMPLES * PAPER_EPOCHS / rows_per_core_s / 3600


def count_parameters(location: str, config: ModelConfig) -> int:
    folder = Folder.at(location)
    spec = read_spec(folder, read_manifest(folder, kind="dataset", build_hint="build it first"))
    with torch.device("meta"):
        model = build_model(config, spec)
    return sum(parameter.numel() for parameter in model.parameters())


def all_reduce_s(parameters: int, kind: str) -> float:
    """Seconds for gloo to add up two processes' gradients, nothing hidden; the fastest of several."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_reduce, args=(folder, parameters, kind), nprocs=2)  # type: ignore[no-untyped-call, attr-defined]
        return float(Path(folder, "seconds").read_text())


def _reduce(rank: int, folder: str, parameters: int, kind: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    gradients = torch.ones(parameters, dtype=torch.bfloat16 if kind == "bf16" else torch.float32)
    seconds = []
    for _ in range(5):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(gradients)
        seconds.append(time.perf_counter() - started)
    if rank == 0:
        Path(folder, "seconds").write_text(str(min(seconds)))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
