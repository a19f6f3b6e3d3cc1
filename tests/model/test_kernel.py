"""The native kernel against the PyTorch form of the same product."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from m2m_model import amx, generated
from m2m_model.generated import generated_product, per_row

KERNEL = pytest.mark.skipif(amx._kernel() is None, reason="no AMX, or no compiler that knows it")
Product = tuple[Tensor, Tensor, Tensor, Tensor, generated.Runs]


def random_product(seed: int, *, runs: generated.Runs, r: int, s: int, x: int, y: int) -> Product:
    random = torch.Generator().manual_seed(seed)
    rows, keys = sum(k * n for k, n in runs), sum(k for k, _ in runs)

    def normal(*shape: int, scale: float) -> Tensor:
        return (torch.randn(*shape, generator=random) * scale).bfloat16()

    generator = normal(x, y, s, scale=(x * s) ** -0.5), normal(x, y, scale=x**-0.5)
    return normal(rows, r, x, scale=1.0), normal(keys, s, scale=1.0), *generator, runs


def by_pytorch(product: Product, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(amx, "_kernel", lambda: None)
        return in_bf16(product)


def in_bf16(product: Product) -> Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return generated_product(*product)


def exactly(product: Product) -> Tensor:
    """W rounded to bf16, as both forms have it; all else in double precision."""
    h, s, by_scenario, always, runs = product
    w = torch.einsum("qs,xys->qxy", s.double(), by_scenario.double()) + always.double()
    return torch.einsum("brx,bxy->bry", h.double(), per_row(w.bfloat16().double(), runs))


RUNS = st.lists(st.tuples(st.integers(1, 70), st.integers(1, 40)), min_size=1, max_size=3, unique_by=lambda run: run[1])


@KERNEL
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    runs=RUNS.map(lambda runs: tuple(sorted(runs, key=lambda run: run[1]))),
    r=st.sampled_from([1, 4, 20]),
    s=st.sampled_from([32, 64, 96]),
    x=st.sampled_from([32, 64, 128, 256, 384]),
    y=st.sampled_from([32, 64, 160]),
)
def test_it_is_the_product_of_rounded_weights(seed: int, runs: generated.Runs, r: int, s: int, x: int, y: int) -> None:
    product = random_product(seed, runs=runs, r=r, s=s, x=x, y=y)
    assert amx.fits(product[1], product[3])
    # Sums in another order can round a weight the other way: 2^-8 of it, among X whose squares add up to about 1.
    torch.testing.assert_close(in_bf16(product).double(), exactly(product), rtol=2**-8, atol=0.02)


@KERNEL
def test_no_further_from_the_truth_than_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    product = random_product(0, runs=((70, 1), (30, 3), (2, 50)), r=4, s=64, x=256, y=512)
    h, s, by_scenario, always, runs = (part.double() if isinstance(part, Tensor) else part for part in product)
    truth = generated_product(h, s, by_scenario, always, runs)
    errors = [
        (found.double() - truth).square().mean() for found in (in_bf16(product), by_pytorch(product, monkeypatch))
    ]
    assert errors[0] <= 1.1 * errors[1]


@KERNEL
def test_a_vector_has_the_same_product_in_any_company() -> None:
    h, s, by_scenario, always, runs = random_product(1, runs=((90, 1), (40, 7)), r=4, s=64, x=256, y=64)
    together = in_bf16((h, s, by_scenario, always, runs))
    alone = in_bf16((h[17:18], s[17:18], by_scenario, always, ((1, 1),)))
    assert torch.equal(alone, together[17:18])
    rows = slice(90 + 3 * 7, 90 + 4 * 7)
    some = in_bf16((h[rows], s[93:94], by_scenario, always, ((1, 7),)))
    assert torch.equal(some, together[rows])


@KERNEL
def test_threads_share_the_columns() -> None:
    product = random_product(2, runs=((65, 1), (3, 20)), r=4, s=64, x=256, y=512)
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(in_bf16(product))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@KERNEL
@pytest.mark.parametrize(("s", "x", "y"), [(16, 128, 64), (64, 48, 64), (64, 128, 48), (64, 160, 64)])
def test_other_sizes_are_pytorchs(s: int, x: int, y: int) -> None:
    product = random_product(3, runs=((5, 2),), r=1, s=s, x=x, y=y)
    assert not amx.fits(product[1], product[3])
    torch.testing.assert_close(in_bf16(product).double(), exactly(product), rtol=2**-6, atol=0.05)


def test_without_the_kernel_pytorch_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    product = random_product(4, runs=((5, 2), (3, 9)), r=4, s=64, x=128, y=64)
    torch.testing.assert_close(by_pytorch(product, monkeypatch).double(), exactly(product), rtol=2**-6, atol=0.05)
