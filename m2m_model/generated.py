"""Products with generated weights, fast and exact: why no batch of weight matrices is made row by row.

Letters: B rows, Q distinct keys, R vectors of a row, S knowledge, X -> Y a generated matrix, C id columns.

A meta layer multiplies row b's vectors by ``W_b = V s_b + v`` (eq. 11). Written as one batched product, W is made for
every row, B X Y S multiplications, and its gradient is met three times more: ``dV = sum_b s_b dW_b``,
``ds_b = V dW_b``, ``dv = sum_b dW_b``. Five things are cheaper and give the same sums:

1. *Once per key.* s is a function of ids, so rows with equal ids have equal W. With rows sorted by key the work is
   that of Q keys, not of B rows, and a key's rows are one true matrix product, ``[n R, X] @ [X, Y]``. Keys are sorted
   by their number of rows, so that those with equally many are one batched product and nothing is padded: ``runs``.
2. *Row-independent inputs stay out of W.* Where the end of an input vector is the same for all rows (T_t of eq. 14),
   its share of W h is itself linear in s: see ``MetaUnit``.
3. *Gradients in slices.* ``dW = h^T dy`` is as large as W and only there to be summed up. It is made for as many of
   the X at a time as stay in cache, and used for dV, dv and ds at once; V and v are laid out so that a slice of them
   is contiguous.
4. *W is kept* from the forward to the backward pass: to make it again costs a third more arithmetic than reading it.
   Where there will be no backward pass it is made for a block of keys at a time, and without v: ``W h = (V s) h + v h``
   saves a copy of v into every W and costs one product for all rows; with a backward pass it would cost three.
5. *No W for rows alone.* Where a key has one row and the row one vector, W is as large as all else together and used
   for a single product. ``W h = sum_x V_x (h_x s)`` is as many multiplications as making W, and nothing larger than
   V itself is written; so are its gradients, with ``P_x = V_x^T dy`` for both dh and ds.

3 to 5 are PyTorch's form. A core with AVX-512 has a native one, which neither writes W nor dW: :mod:`m2m_model.kernel`.
"""

import math
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable
from torch.nn import functional

from m2m_model import kernel

SLICE_BYTES = 5 << 20
"""Of a slice of dW and of V together: a share of a server core's last-level cache."""

ROWS_ALONE = 48
"""Fewer are not worth products of their own: those are as many as W has rows, each over all rows that are alone."""

KEYS_AT_A_TIME = 512
"""Without a backward pass; 512 MiB of W at D = 512, in bf16 256."""

Runs = tuple[tuple[int, int], ...]
"""(k, n), (k', n'), ...: the first k keys have n rows each, the next k' have n' each; rows lie in the order of keys."""


class Keys(NamedTuple):
    """The rows of a batch by their distinct keys."""

    ids: Int[Tensor, "Q C"]
    """The distinct keys, those with fewest rows first."""
    order: Int[Tensor, "B"]
    """The rows, sorted by key."""
    runs: Runs


def group_rows(ids: Int[Tensor, "B C"]) -> Keys:
    """Sort rows by their key, and keys by their number of rows.

    An exported program is the same for all batches and cannot follow how rows share keys: there each row has its own.
    """
    if torch.compiler.is_exporting():
        return Keys(ids, torch.arange(ids.shape[0]), ((ids.shape[0], 1),))
    if not len(ids):
        return Keys(ids, torch.arange(0), ())
    if not ids.shape[1]:
        return Keys(ids[:1], torch.arange(len(ids)), ((1, len(ids)),))
    distinct, key, rows = torch.unique(ids, dim=0, return_inverse=True, return_counts=True)
    by_rows = rows.argsort(stable=True)
    sizes, keys = torch.unique_consecutive(rows[by_rows], return_counts=True)
    runs = tuple(zip(keys.tolist(), sizes.tolist(), strict=True))
    return Keys(distinct[by_rows], by_rows.argsort()[key].argsort(stable=True), runs)


def per_row(of_key: Float[Tensor, "Q *rest"], runs: Runs) -> Float[Tensor, "B *rest"]:
    """Each key's value for each of its rows."""
    if all(rows == 1 for _, rows in runs):
        return of_key
    parts = torch.split(of_key, [keys for keys, _ in runs])
    repeated = [
        part.unsqueeze(1).expand(-1, n, *part.shape[1:]).flatten(0, 1) for part, (_, n) in zip(parts, runs, strict=True)
    ]
    return torch.cat(repeated)


def generated_product(
    h: Float[Tensor, "B R X"],
    s: Float[Tensor, "Q S"],
    by_scenario: Float[Tensor, "X Y S"],
    always: Float[Tensor, "X Y"],
    runs: Runs,
) -> Float[Tensor, "B R Y"]:
    """``h_b @ (V s_q + v)`` for the rows b of every key q; V is ``by_scenario``, v is ``always``."""
    if torch.compiler.is_exporting():
        w = functional.linear(s, by_scenario.flatten(0, 1), always.flatten())
        return torch.bmm(h, w.view(-1, *always.shape))
    if kernel.fits(h, s, by_scenario):
        return kernel.generated_product(h, s, by_scenario, always, runs)
    alone = _rows_alone(h, runs)
    parts: list[Tensor] = []
    if alone:
        parts.append(_ProductAlone.apply(h[:alone, 0], s[:alone], by_scenario, always).unsqueeze(1))  # type: ignore[no-untyped-call]
        h, s, runs = h[alone:], s[alone:], runs[1:]
        if not runs:
            return parts[0]
    product = _GeneratedProduct.apply if torch.is_grad_enabled() else _forward_only
    parts.append(product(h, s, by_scenario, always, runs))
    return torch.cat(parts) if alone else parts[0]


class _Workspace(threading.local):
    """Room for W, taken once by a thread: were it asked for anew each time, small objects that live on, such as torch's
    kernels for the shapes met so far, would settle where it had been, and the process grow with every batch."""

    def __init__(self) -> None:
        self.bytes = torch.empty(0, dtype=torch.uint8)

    def like(self, other: Tensor, *shape: int) -> Tensor:
        """An uninitialised tensor of ``other``'s type, good until the next call."""
        needed = math.prod(shape) * other.element_size()
        if len(self.bytes) < needed:
            self.bytes = torch.empty(needed, dtype=torch.uint8)
        return self.bytes[:needed].view(other.dtype).view(shape)


_workspace = _Workspace()


def _rows_alone(h: Float[Tensor, "B R X"], runs: Runs) -> int:
    """How many rows, the first ones, are better multiplied without W. None in bf16: X parts, so many roundings."""
    alone = runs[0][0] if runs and runs[0][1] == 1 and h.shape[1] == 1 else 0
    return alone if alone >= ROWS_ALONE and not torch.is_autocast_enabled("cpu") else 0


class _ProductAlone(torch.autograd.Function):
    """``W h`` for one vector h of each key, [Q, X] -> [Q, Y]."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, s: Tensor, by_scenario: Tensor, always: Tensor) -> Tensor:
        y = h @ always
        for of_h, of_x in zip(h.T, by_scenario, strict=True):
            y.addmm_(of_h.unsqueeze(1) * s, of_x.T)
        ctx.save_for_backward(h, s, by_scenario, always)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, s, by_scenario, always = ctx.saved_tensors
        dh, ds, d_by_scenario = dy @ always.T, torch.zeros_like(s), torch.empty_like(by_scenario)
        for part in _slices(s, by_scenario):
            of_h = h[:, part].T.unsqueeze(2)
            each_dy = dy.expand(len(of_h), *dy.shape)
            torch.bmm(each_dy.mT, of_h * s, out=d_by_scenario[part])
            p = each_dy @ by_scenario[part]  # [x, Q, S]
            dh[:, part] += (p * s).sum(dim=2).T
            ds += (p * of_h).sum(dim=0)
        return dh, ds, d_by_scenario, h.T @ dy


def _forward_only(h: Tensor, s: Tensor, by_scenario: Tensor, always: Tensor, runs: Runs) -> Tensor:
    """The same as :class:`_GeneratedProduct` where no gradients are wanted."""
    if torch.is_autocast_enabled("cpu"):
        h, s, by_scenario, always = (part.bfloat16() for part in (h, s, by_scenario, always))
    with torch.autocast("cpu", enabled=False):
        y = h @ always
        for block_rows, block_keys, block in _blocks(runs):
            of_s, of_h, of_y = s[block_keys], h[block_rows], y[block_rows]
            w = _workspace.like(h, len(of_s), *always.shape)
            for part in _slices(of_s, by_scenario):
                torch.mm(of_s, by_scenario[part].flatten(0, 1).T, out=w[:, part].flatten(1))
            for rows, keys in _runs(_powers_of_two(block)):
                _grouped(of_y[rows], keys).baddbmm_(_grouped(of_h[rows], keys), w[keys])
    return y


class _GeneratedProduct(torch.autograd.Function):
    """See the module docstring. Under autocast all of it is bf16; what slices add up to is summed in fp32."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, h: Tensor, s: Tensor, by_scenario: Tensor, always: Tensor, runs: Runs) -> Tensor:
        w = h.new_empty(len(s), *always.shape)
        for part in _slices(s, by_scenario):
            torch.addmm(always[part].flatten(), s, by_scenario[part].flatten(0, 1).T, out=w[:, part].flatten(1))
        y = h.new_empty(*h.shape[:2], always.shape[1])
        for rows, keys in _runs(runs):
            torch.bmm(_grouped(h[rows], keys), w[keys], out=_grouped(y[rows], keys))
        ctx.save_for_backward(h, s, by_scenario, w)
        ctx.runs = runs
        return y

    @staticmethod
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        h, s, by_scenario, w = ctx.saved_tensors
        dy = dy.contiguous()
        dh, ds = torch.empty_like(h), torch.zeros_like(s, dtype=torch.promote_types(s.dtype, torch.float32))
        d_by_scenario, d_always = torch.empty_like(by_scenario), by_scenario.new_empty(by_scenario.shape[:2])
        groups = [(_grouped(h[rows], keys), _grouped(dy[rows], keys), keys) for rows, keys in _runs(ctx.runs)]
        for (rows, keys), (_, of_dy, _) in zip(_runs(ctx.runs), groups, strict=True):
            torch.bmm(of_dy, w[keys].mT, out=_grouped(dh[rows], keys))
        for part in _slices(s, by_scenario):
            dw = w.new_empty(len(s), *by_scenario[part].shape[:2])
            for of_h, of_dy, keys in groups:
                torch.bmm(of_h[..., part].mT, of_dy, out=dw[keys])
            flat = dw.flatten(1)
            torch.mm(flat.T, s, out=d_by_scenario[part].flatten(0, 1))
            torch.sum(flat, dim=0, out=d_always[part].flatten())
            ds += flat @ by_scenario[part].flatten(0, 1)
        return dh, ds.to(s.dtype), d_by_scenario, d_always, None


def _slices(s: Tensor, by_scenario: Tensor) -> Iterator[slice]:
    """X in parts of which dW and V together fit the cache."""
    x, y, _ = by_scenario.shape
    width = max(1, SLICE_BYTES // ((len(s) + s.shape[1]) * y * by_scenario.element_size()))
    return (slice(start, min(x, start + width)) for start in range(0, x, width))


def _runs(runs: Runs) -> Iterator[tuple[slice, slice]]:
    """(rows, keys) of every run."""
    row = key = 0
    for keys, rows in runs:
        yield slice(row, row + keys * rows), slice(key, key + keys)
        row, key = row + keys * rows, key + keys


def _blocks(runs: Runs) -> Iterator[tuple[slice, slice, Runs]]:
    """(rows, keys, their runs) of blocks of at most ``KEYS_AT_A_TIME`` keys."""
    row = key = 0
    block: list[tuple[int, int]] = []
    left = [*reversed(runs)]
    while left or block:
        room = KEYS_AT_A_TIME - sum(keys for keys, _ in block)
        if left and room:
            keys, rows = left.pop()
            block.append((min(keys, room), rows))
            if keys > room:
                left.append((keys - room, rows))
            continue
        ends = row + sum(keys * rows for keys, rows in block), key + sum(keys for keys, _ in block)
        yield slice(row, ends[0]), slice(key, ends[1]), tuple(block)
        (row, key), block = ends, []


def _powers_of_two(runs: Runs) -> Runs:
    """The same keys in runs of 1, 2, 4, ... of them: torch keeps a kernel for every shape that it has met in bf16."""
    return tuple((1 << bit, rows) for keys, rows in runs for bit in range(keys.bit_length()) if keys >> bit & 1)


def _grouped(vectors: Tensor, keys: slice) -> Tensor:
    """[k n, R, X] -> [k, n R, X]: all vectors of each of a run's k keys."""
    return vectors.view(keys.stop - keys.start, -1, vectors.shape[-1])
