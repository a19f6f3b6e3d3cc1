"""What slow twins are written with: loops over rows, in double precision, gradients included."""

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from m2m_model.sequence import SequenceEncoder

few = st.integers(1, 3)
dims = st.integers(1, 4)
random_sizes = settings(max_examples=12, deadline=None, derandomize=True)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def slow_linear(x: Tensor, linear: nn.Linear) -> Tensor:
    """One output at a time."""
    return torch.stack([(row * x).sum() + linear.bias[o] for o, row in enumerate(linear.weight)])


def assert_same_with_gradients(fast: Tensor, slow: Tensor, module: nn.Module, *inputs: Tensor) -> None:
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    leaves = [*module.parameters(), *inputs]
    direction = torch.randn_like(fast)
    gradients = [
        torch.autograd.grad((y * direction).sum(), leaves, allow_unused=True, materialize_grads=True)
        for y in (fast, slow)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def sequence_embedding(encoder: SequenceEncoder, sizes: list[int], ids: Tensor) -> Tensor:
    """4.1.1: each day is the vectors of its ids, each from its column's own table, and the vector of its position."""
    tables = encoder.embedding.features.table.weight.split(sizes)
    days = [
        torch.cat([*(table[i] for table, i in zip(tables, day, strict=True)), encoder.embedding.position[position]])
        for row in ids
        for position, day in enumerate(row)
    ]
    return torch.stack(days).view(*ids.shape[:2], -1)
