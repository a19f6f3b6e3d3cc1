"""One variant of a training step, in a process of its own on one core; prints one JSON object.

python -m benchmarks.train.measure --form fast --keys synthetic_grouped [--shared] [--bf16] [--rows 1024] [--steps 4]
"""

import argparse
import gc
import json
import os
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.train.bmm_twin import bmm_twin
from benchmarks.train.keys import batches
from benchmarks.train.world import BATCH_ROWS, TASKS, batch_with_keys, paper_config, paper_loss, paper_spec
from m2m_model.backbone import knowledge_ids
from m2m_model.batch import Batch
from m2m_model.generated import group_rows
from m2m_model.model import Model
from m2m_model.zoo.m2m import M2M
from m2m_model.zoo.registry import build_model
from training.config import TrainConfig
from training.optimizer import ClippedAdam, make_optimizer
from training.step import backward_by_task

CONFIG = TrainConfig(l2_meta=1e-6, l2_network=1e-6, learning_rate=1e-4)
FORWARD_BACKWARD = 3
"""Arithmetic of both passes over that of the forward pass."""


def fast_step(model: Model, optimizer: ClippedAdam, weights: Tensor, *, bf16: bool) -> Callable[[Batch], float]:
    """What training.loop does in a step of one worker; ``weights`` [M] are lambda_t."""
    joint, body = paper_loss(model, weights), model.body
    assert isinstance(body, M2M)

    def step(batch: Batch) -> float:
        total = backward_by_task(
            body,
            batch,
            lambda views, tasks: joint(model.output(views, batch.history, tasks), batch, tasks),
            optimizer.step,
            bf16=bf16,
        )
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step


def bmm_step(model: Model, optimizer: ClippedAdam, weights: Tensor, *, bf16: bool) -> Callable[[Batch], float]:
    joint = paper_loss(model, weights)

    def step(batch: Batch) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            parameters = model(batch)
        loss = joint(parameters, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def useful_flops(body: M2M, batch: Batch) -> float:
    """Multiplications and additions of a step in the cheapest exact form: every W once per key, no T_t half of W."""
    config, rows = body.config, len(batch)
    keys = len(group_rows(knowledge_ids(config, batch)).ids)
    units = len(body.task_groups)
    view, dim, n = config.view_dim, 2 * config.view_dim, TASKS // units
    s, inner = config.knowledge_dim + 1, (config.meta_layers - 1) * dim * dim
    tower = config.tower_layers * config.meta_layers * view * view
    generate = units * keys * s * (view * dim + inner + tower)
    apply = units * rows * (config.experts * (view * dim + n * inner) + n * tower)
    flops = generate + apply
    for encoder in body.backbone.sequences.values():
        days, width = encoder.embedding.length, encoder.embedding.output_dim
        flops += rows * days * (4 * width * width + 2 * days * width)
    flops += rows * body.experts.linear.weight.numel()
    return 2.0 * FORWARD_BACKWARD * flops


def matmul_rate(dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product on this core."""
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    times = []
    for _ in range(4):
        start = time.process_time()
        torch.mm(a, b)
        times.append(time.process_time() - start)
    return 2 * 2048**3 / min(times)


def resident_bytes(*, peak: bool) -> int:
    """Of this process, now or at most so far."""
    if peak:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def kept_gradients(model: nn.Module) -> int:
    """Elements of the gradients that exist at the same time: of one task's units, and of all that tasks share."""
    sizes = {parameter: parameter.numel() for parameter in model.parameters()}
    body = getattr(model, "body", None)
    if not isinstance(body, M2M):
        return sum(sizes.values())
    own = [sum(sizes[p] for p in body.own_parameters(group)) for group in range(len(body.task_groups))]
    return sum(sizes.values()) - sum(own) + max(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=["fast", "bmm"], required=True)
    parser.add_argument("--keys", required=True, help="see benchmarks.train.keys")
    parser.add_argument("--shared", action="store_true", help="one meta unit for all tasks")
    parser.add_argument("--layers", type=int, default=2, help="L, tower layers")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--rows", type=int, default=BATCH_ROWS, help="of a batch")
    parser.add_argument("--steps", type=int, default=4, help="the first one is not timed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = paper_spec()
    peak_rate = matmul_rate(torch.bfloat16 if arguments.bf16 else torch.float32)
    before = resident_bytes(peak=False)
    fast = build_model(paper_config(shared=arguments.shared, tower_layers=arguments.layers), spec)
    assert isinstance(fast.body, M2M)
    config = fast.body.config
    draws = batches(arguments.keys, rows=arguments.rows, seed=1)
    drawn = [batch_with_keys(spec, next(draws), seed=number) for number in range(arguments.steps)]
    flops = [useful_flops(fast.body, batch) for batch in drawn]
    model = fast if arguments.form == "fast" else bmm_twin(fast)
    del fast  # its meta weights go, the twin has a copy
    gc.collect()
    optimizer = make_optimizer(model, CONFIG)
    make = fast_step if arguments.form == "fast" else bmm_step
    step = make(model, optimizer, torch.full((TASKS,), 1 / arguments.rows), bf16=arguments.bf16)
    seconds = []
    for batch in drawn:
        start = time.process_time()
        step(batch)
        seconds.append(time.process_time() - start)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kept = 4 * (3 * parameters + kept_gradients(model))
    timed = slice(1, None)
    rows = arguments.rows * len(seconds[timed])
    keys = sum(len(group_rows(knowledge_ids(config, batch)).ids) for batch in drawn) / len(drawn)
    print(
        json.dumps(
            {
                "samples_per_core_s": rows / sum(seconds[timed]),
                "distinct_keys": keys,
                "seconds": seconds,
                "useful_flop_fraction": sum(flops[timed]) / sum(seconds[timed]) / peak_rate,
                "matmul_gflops": peak_rate / 1e9,
                "excess_mib": (resident_bytes(peak=True) - before - kept) / 2**20,
                "parameters": parameters,
            }
        )
    )


if __name__ == "__main__":
    main()
