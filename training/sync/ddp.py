"""Synchronous training: every step is the exact mean over the rows of all ranks, also where ranks have unequally many.

Ranks add up their row counts first, and a rank that ran out of rows takes part with none until all have.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from m2m_model.batch import Batch
from training.config import TrainConfig
from training.optimizer import ClippedAdam, adam_options, make_optimizer, parameter_options, set_rate
from training.sync.base import Gradient, Meeting, total, world


class Synchronous:
    """``DistributedDataParallel``, or the plain model where there is one rank."""

    deal = None
    """Shares are fixed."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.rank, self.world = world()
        self.module = _parallel(model, config) if self.world > 1 else model
        self.optimizer: Any
        if config.shard_optimizer and self.world > 1:
            self.optimizer = ZeroRedundancyOptimizer(
                parameter_options(model, config), ClippedAdam, **adam_options(config)
            )
        else:
            self.optimizer = make_optimizer(model, config)

    def start(self) -> None:
        pass

    def set_learning_rate(self, rate: float) -> None:
        set_rate(self.optimizer, rate)

    def step(self, batch: Batch | None, gradient: Gradient) -> Meeting | None:
        rows = int(total([0.0 if batch is None else len(batch)])[0])
        if rows == 0:
            return Meeting(rows=0, loss=0.0, steps=0)
        # DDP averages over ranks; times world / rows makes that the mean over all rows.
        update = self.optimizer.step if self.world == 1 else None
        loss = gradient(self.module, batch, self.world / rows, update)
        self.optimizer.step()
        return Meeting(rows=rows, loss=total([loss])[0], steps=1)

    def optimizer_state(self) -> dict[str, Any]:
        if isinstance(self.optimizer, ZeroRedundancyOptimizer):
            self.optimizer.consolidate_state_dict(to=0)
            if self.rank != 0:
                return {}
        state: dict[str, Any] = self.optimizer.state_dict()
        return state

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


def _parallel(model: nn.Module, config: TrainConfig) -> DistributedDataParallel:
    # Gradients that are views of the buckets exist once; otherwise a bucket's copy of each comes on top.
    parallel = DistributedDataParallel(model, bucket_cap_mb=config.bucket_mib, gradient_as_bucket_view=True)
    if config.all_reduce == "bf16":
        parallel.register_comm_hook(None, all_reduce_bf16)
    return parallel


def all_reduce_bf16(group: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Average a bucket's gradients as bfloat16, half the bytes. torch has this hook, and refuses it without NCCL.

    Every addition rounds to 8 bits: over W ranks a gradient is off by at most about W * 2^-8 of its addends' size.
    """
    gradients = bucket.buffer()
    halves = gradients.to(torch.bfloat16).div_(dist.get_world_size(group))
    future: torch.futures.Future[Any] = dist.all_reduce(halves, group=group, async_op=True).get_future()
    return future.then(lambda done: gradients.copy_(done.value()[0]))
