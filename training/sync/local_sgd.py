"""Local SGD: ranks train on their own and average their weights every ``sync_period`` steps (torch's model averaging).

A rank's weights count by the rows it has trained on since the last average, so that one that ran out has no say.
Adam's moments stay with their rank, as in DiLoCo and in torch's PostLocalSGDOptimizer, and are averaged where they
leave it, in a snapshot: what goes on is then the same whether training stopped there or not.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.model_averaging.utils import average_parameters

from m2m_model.batch import Batch
from training.config import TrainConfig
from training.optimizer import make_optimizer, set_rate
from training.sync.base import Gradient, Meeting, broadcast_parameters, total, world


class LocalSgd:
    deal = None
    """Shares are fixed."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model, self.period = model, config.sync_period
        self.rank, self.world = world()
        self.optimizer = make_optimizer(model, config)
        _make_moments(self.optimizer)
        self.calls = 0
        self.rows, self.loss, self.steps = 0, 0.0, 0

    def start(self) -> None:
        if self.world > 1:
            broadcast_parameters(self.model.parameters())

    def set_learning_rate(self, rate: float) -> None:
        set_rate(self.optimizer, rate)

    def step(self, batch: Batch | None, gradient: Gradient) -> Meeting | None:
        if batch is not None:
            self.loss += gradient(self.model, batch, 1 / len(batch), self.optimizer.step)
            self.optimizer.step()
            self.rows += len(batch)
            self.steps += 1
        self.calls += 1
        return self._meet() if self.calls % self.period == 0 else None

    def _meet(self) -> Meeting:
        rows, loss, steps = total([self.rows, self.loss, self.steps])
        if rows:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.mul_(self.world * self.rows / rows)
            _average(self.model.parameters())
        self.rows, self.loss, self.steps = 0, 0.0, 0
        return Meeting(rows=int(rows), loss=loss, steps=round(steps / self.world))

    def optimizer_state(self) -> dict[str, Any]:
        _average(state[name] for state in self.optimizer.state.values() for name in ("step", "exp_avg", "exp_avg_sq"))
        return self.optimizer.state_dict()

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


def _average(tensors: Iterable[Tensor]) -> None:
    """Give all ranks the mean of each tensor."""
    if dist.is_initialized():
        average_parameters(iter(tensors), dist.group.WORLD)  # type: ignore[arg-type]


def _make_moments(optimizer: torch.optim.Optimizer) -> None:
    """Adam makes its moments in its first step; a rank without rows never takes one and has them averaged all the same.

    A step of length 0 leaves the weights as they were.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in optimizer.state.values():
        for tensor in state.values():
            tensor.zero_()
