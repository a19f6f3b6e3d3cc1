"""Products with generated weights by a native kernel, where no gradients are wanted: bf16 on cores with AMX.

In PyTorch W is written to memory by one product and read again by the next, and that is what scoring in bf16 waits for:
per key and layer half a megabyte each way at D = 512. The kernel (``amx.cpp``) makes half a megabyte of W in a core's
own cache and multiplies it there. Its twin is the PyTorch form in :mod:`m2m_model.generated`, which is what all other
machines, types and sizes have, and a machine on which the kernel was not built: installing builds it where there is a
C++ compiler that knows AMX, and goes on without it elsewhere.
"""

import ctypes
import functools
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from jaxtyping import BFloat16
from torch import Tensor

INPUTS = 128
"""Those of W that are made at a time (``INPUTS`` of ``amx.cpp``)."""

OUTPUTS = 32
"""Columns of a thread's share of the product."""


def fits(s: Tensor, always: Tensor) -> bool:
    """Whether the kernel is there and takes these: bf16 matrices whose X, Y and S fill its tiles."""
    (keys, knowledge), (x, y) = s.shape, always.shape
    in_tiles = (x % INPUTS == 0 or x in (32, 64)) and y % OUTPUTS == 0 and knowledge % 32 == 0
    return in_tiles and keys * knowledge > 0 and s.dtype == torch.bfloat16 and _kernel() is not None


def generated_product(
    h: BFloat16[Tensor, "B R X"],
    s: BFloat16[Tensor, "Q S"],
    by_scenario: BFloat16[Tensor, "X Y S"],
    always: BFloat16[Tensor, "X Y"],
    runs: tuple[tuple[int, int], ...],
) -> BFloat16[Tensor, "B R Y"]:
    """See :func:`m2m_model.generated.generated_product`; ``fits`` must say yes.

    W is rounded to bf16, everything is summed in fp32, and the sum is rounded: a vector's product is the same whatever
    other keys and vectors there are.
    """
    kernel = _kernel()
    assert kernel is not None, "fits() says no"
    vectors = torch.cat([torch.full((keys,), rows * h.shape[1]) for keys, rows in runs])
    first = torch.cat([vectors.new_zeros(1), vectors.cumsum(0)])
    y = h.new_empty(*h.shape[:2], always.shape[1])
    tensors = [part.contiguous() for part in (h, s, by_scenario, always)]
    kernel(*(part.data_ptr() for part in (*tensors, y, first)), *s.shape, *always.shape, torch.get_num_threads())
    return y


@functools.cache
def _kernel() -> "ctypes._NamedFuncPointer | None":
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_amx{suffix}")
        if path.is_file():
            library = ctypes.CDLL(str(path))
            product = library.m2m_generated_product
            product.argtypes, product.restype = [ctypes.c_void_p] * 6 + [ctypes.c_int64] * 5, None
            return product if library.m2m_amx_ready() else None
    return None
