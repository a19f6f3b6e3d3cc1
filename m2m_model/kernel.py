"""Products with generated weights and their gradients by a native kernel, on cores with AVX-512.

In PyTorch W is written to memory by one product and read again by the next, and so is dW: per key and layer a megabyte
each way at D = 512. The kernel (``kernel.cpp``) makes half a megabyte of W in a core's own cache and uses it there; the
backward pass makes it again, which is cheaper than to keep it. bf16 is read from and summed up to the fp32 of
parameters and of their gradients, without a copy of them. Its twin is the PyTorch form in :mod:`m2m_model.generated`,
which is what all other machines, types and sizes have, and a machine on which the kernel was not built: installing
builds it where there is a C++ compiler that knows the instructions, and goes on without it elsewhere.

fp32 is AVX-512's, bf16 AMX's where a core has it and AVX-512's where that knows bf16.
"""

import ctypes
import functools
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

SIDE = 32
"""Rows and columns of its products; of the inputs and outputs of W as many pairs in bf16."""

Runs = tuple[tuple[int, int], ...]


class Machine(NamedTuple):
    """The kernel as this core can run it, and a number for which of its forms that is (``kernel.cpp``)."""

    library: ctypes.CDLL
    number: int


def fits(h: Tensor, s: Tensor, by_scenario: Tensor) -> bool:
    """Whether the kernel is there and takes these: fp32 parameters whose X, Y and S fill its tiles.

    Under autocast to bf16 all else is bf16, otherwise fp32.
    """
    bf16 = torch.is_autocast_enabled("cpu")
    return (bf16 or h.dtype == s.dtype == torch.float32) and len(s) > 0 and takes(by_scenario, bf16=bf16)


def takes(by_scenario: Tensor, *, bf16: bool) -> bool:
    """Whether ``fits`` would say yes to a generator [X, Y, S], for a product in bf16 or fp32."""
    x, y, knowledge = by_scenario.shape
    side = 2 * SIDE if bf16 else SIDE
    in_tiles = x % side == 0 and y % side == 0 and knowledge % SIDE == 0 and by_scenario.numel() > 0
    return in_tiles and by_scenario.dtype == torch.float32 and machine(bf16=bf16) is not None


def generated_product(
    h: Float[Tensor, "B R X"],
    s: Float[Tensor, "Q S"],
    by_scenario: Float[Tensor, "X Y S"],
    always: Float[Tensor, "X Y"],
    runs: Runs,
) -> Float[Tensor, "B R Y"]:
    """See :func:`m2m_model.generated.generated_product`; ``fits`` must say yes.

    W is rounded to the type of h, everything is summed in fp32, and the sum is rounded: a vector's product is the same
    to the bit whatever other keys and vectors there are.
    """
    if torch.is_autocast_enabled("cpu"):
        h, s = h.bfloat16(), s.bfloat16()
    product: Tensor = _Product.apply(h, s, by_scenario, always, runs)  # type: ignore[no-untyped-call]
    return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, s: Tensor, by_scenario: Tensor, always: Tensor, runs: Runs) -> Tensor:
        vectors = torch.cat([torch.full((keys,), rows * h.shape[1]) for keys, rows in runs])
        first = torch.cat([vectors.new_zeros(1), vectors.cumsum(0)])
        h, s, by_scenario, always = (part.contiguous() for part in (h, s, by_scenario, always))
        ctx.save_for_backward(h, s, by_scenario, always, first)
        return _product(h, s, by_scenario, always, first)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        h, s, by_scenario, always, first = ctx.saved_tensors
        dy = dy.contiguous()
        dh = _product(dy, s, by_scenario, always, first, transposed=True)
        d_by_scenario, d_always = torch.empty_like(by_scenario), torch.empty_like(always)
        ds = torch.empty_like(s, dtype=torch.float32)
        library, number = _known(h.dtype)
        tensors = (h, s, dy, by_scenario, d_by_scenario, d_always, ds, first)
        library.m2m_gradients(number, *(part.data_ptr() for part in tensors), *_sizes(s, by_scenario))
        return dh, ds.to(s.dtype), d_by_scenario, d_always, None


def _product(
    h: Tensor, s: Tensor, by_scenario: Tensor, always: Tensor, first: Tensor, *, transposed: bool = False
) -> Tensor:
    """By W, or W^T."""
    y = h.new_empty(*h.shape[:2], by_scenario.shape[0 if transposed else 1])
    library, number = _known(h.dtype)
    tensors = (h, s, by_scenario, always, y, first)
    library.m2m_product(number, *(part.data_ptr() for part in tensors), *_sizes(s, by_scenario), transposed)
    return y


def _sizes(s: Tensor, by_scenario: Tensor) -> tuple[int, ...]:
    x, y, knowledge = by_scenario.shape
    return len(s), knowledge, x, y, torch.get_num_threads()


def _known(dtype: torch.dtype) -> Machine:
    known = machine(bf16=dtype == torch.bfloat16)
    assert known is not None, "fits() says no"
    return known


@functools.cache
def machine(*, bf16: bool) -> Machine | None:
    """What runs the kernel here; None where nothing does."""
    library = _library()
    number = library.m2m_machine(bf16) if library else 0
    return Machine(library, number) if library and number else None


@functools.cache
def _library() -> ctypes.CDLL | None:
    paths = (Path(__file__).with_name(f"_kernel{suffix}") for suffix in EXTENSION_SUFFIXES)
    return next((load(path) for path in paths if path.is_file()), None)


def load(path: Path) -> ctypes.CDLL:
    """The kernel as a shared library."""
    library = ctypes.CDLL(str(path))
    pointer, number, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.m2m_machine.argtypes, library.m2m_machine.restype = [flag], flag
    library.m2m_product.argtypes = [flag, *[pointer] * 6, *[number] * 5, flag]
    library.m2m_gradients.argtypes = [flag, *[pointer] * 8, *[number] * 5]
    library.m2m_product.restype = library.m2m_gradients.restype = None
    return library
