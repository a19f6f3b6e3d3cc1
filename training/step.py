"""Gradients task by task, for models whose tasks have nothing in common beyond a trunk.

Letters: B rows, N tasks of a group, V view dimension.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.batch import Batch

Update = Callable[[Iterable[nn.Parameter]], None]
"""Takes an optimizer step for some parameters, which have their gradients."""


@runtime_checkable
class TaskByTask(Protocol):
    """A model's body whose groups of tasks are each a function of a trunk that they share."""

    task_groups: Sequence[slice]

    def trunk(self, batch: Batch) -> Any:
        """A NamedTuple; gradients go through those of its fields that are tensors."""
        ...

    def head(self, trunk: Any, group: int) -> Float[Tensor, "B N V"]: ...

    def own_parameters(self, group: int) -> Iterable[nn.Parameter]:
        """Parameters that no other group and no trunk has."""
        ...


def backward_by_task(
    body: TaskByTask,
    batch: Batch,
    loss: Callable[[Float[Tensor, "B N V"], slice], Float[Tensor, ""]],
    update: Update,
    *,
    bf16: bool = False,
) -> float:
    """Backpropagate the sum of the groups' losses; returns it.

    The same gradients as of one backward pass. But a group's generated weights, and the gradients of its own
    parameters, live only until ``update`` has had them: memory for one task's, not for all.
    """
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    with autocast:
        trunk = body.trunk(batch)
    cut = type(trunk)(*(field.detach().requires_grad_() if _has_gradient(field) else field for field in trunk))
    total = 0.0
    for group, tasks in enumerate(body.task_groups):
        with autocast:
            views = body.head(cut, group)
        part = loss(views, tasks)
        total += part.item()
        part.backward()  # type: ignore[no-untyped-call]
        own = list(body.own_parameters(group))
        update(own)
        for parameter in own:
            parameter.grad = None
    pairs = [(f, c.grad) for f, c in zip(trunk, cut, strict=True) if _has_gradient(f) and c.grad is not None]
    torch.autograd.backward([field for field, _ in pairs], [gradient for _, gradient in pairs])
    return total


def _has_gradient(field: Any) -> bool:
    return isinstance(field, Tensor) and field.requires_grad
