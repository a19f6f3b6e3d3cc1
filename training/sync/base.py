"""The protocol of all ways to make one model of many ranks' steps, and what they share."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from m2m_model.batch import Batch
from training.readers.base import Deal
from training.step import Update

Gradient = Callable[[nn.Module, Batch | None, float, Update | None], float]
"""(module, batch, scale, update) -> the batch's summed loss. Leaves the gradients of scale times it in the module's
parameters, or has given some of them to ``update`` already; no batch counts as one without rows. Clipping and the L2
terms are the optimizer's."""


@dataclass(frozen=True, kw_only=True)
class Meeting:
    """A point that all ranks have come to, with the same weights: where a checkpoint may be taken, or an epoch end."""

    rows: int
    """Rows that all ranks have trained on since the last meeting; none: the epoch is over."""
    loss: float
    """Their summed loss."""
    steps: int
    """Steps since the last meeting: updates of the one model that there is, or of each rank's own, on average."""


class Synchronizer(Protocol):
    """Takes a rank's steps. Every rank makes the same calls, but for the number of ``step`` between two meetings."""

    @property
    def deal(self) -> Deal | None:
        """How the train split's chunks are dealt, if not in fixed shares."""
        ...

    def start(self) -> None:
        """Before the first step; weights and optimizer state are what they shall be."""
        ...

    def set_learning_rate(self, rate: float) -> None:
        """Of the steps from here on; before the first of an epoch."""
        ...

    def step(self, batch: Batch | None, gradient: Gradient) -> Meeting | None:
        """One step on a rank's next batch; None once it has run out, until a meeting says that all have."""
        ...

    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's state dict, whole on rank 0; right after a meeting, called by all ranks."""
        ...

    def load_optimizer_state(self, state: dict[str, Any]) -> None: ...


def world() -> tuple[int, int]:
    """Rank and number of ranks; (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def total(values: list[float]) -> list[float]:
    """Sums over all ranks."""
    if world()[1] == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor]


def broadcast_parameters(parameters: Iterable[Tensor]) -> None:
    """Give all ranks rank 0's values."""
    for parameter in parameters:
        dist.broadcast(parameter.detach(), src=0)
