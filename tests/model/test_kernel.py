"""The native kernel against exact arithmetic and against the PyTorch form of the same product, in all of its forms."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from m2m_model import generated, kernel
from m2m_model.generated import generated_product, per_row

HERE = Path(__file__).parent


class Case(NamedTuple):
    """What goes into a product, and dL/dy."""

    h: Tensor
    s: Tensor
    by_scenario: Tensor
    always: Tensor
    runs: generated.Runs
    dy: Tensor

    def double(self) -> "Case":
        return Case(*(part.double() if isinstance(part, Tensor) else part for part in self))


class Found(NamedTuple):
    y: Tensor
    dh: Tensor
    ds: Tensor
    d_by_scenario: Tensor
    d_always: Tensor


@pytest.fixture(scope="session")
def emulated_amx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The form for AMX with its instructions in plain C++, so that it is tested where a core has none."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    built = tmp_path_factory.mktemp("kernel") / "emulated_amx.so"
    options = ["-O2", "-std=c++17", "-mavx512f", "-mavx512bw", "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-pthread"]
    subprocess.run([compiler, *options, "-shared", "-fPIC", "-o", built, HERE / "emulated_amx.cpp"], check=True)
    return built


@pytest.fixture(params=["fp32", "bf16", "bf16 by emulated AMX"])
def bf16(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the form of the kernel that a test is given, which this core must be able to run, is that for bf16."""
    wanted: bool = request.param != "fp32"
    found = kernel.machine(bf16=wanted)
    if request.param == "bf16 by emulated AMX" and found is not None:
        library = kernel.load(request.getfixturevalue("emulated_amx"))
        found = kernel.Machine(library, library.m2m_machine(1))
        monkeypatch.setattr(kernel, "machine", lambda *, bf16: found)
    if found is None:
        pytest.skip("the core has no AVX-512 for it, or the kernel was not built")
    return wanted


@contextmanager
def by_pytorch() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "machine", lambda *, bf16: None)
        yield


def random_case(seed: int, *, runs: generated.Runs, r: int, s: int, x: int, y: int) -> Case:
    """Numbers that bf16 knows, but for the parameters."""
    random = torch.Generator().manual_seed(seed)
    rows, keys = sum(k * n for k, n in runs), sum(k for k, _ in runs)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=random) * scale

    h, of_keys, dy = (part.bfloat16().float() for part in (normal(rows, r, x), normal(keys, s), normal(rows, r, y)))
    return Case(h, of_keys, normal(x, y, s, scale=(x * s) ** -0.5), normal(x, y, scale=x**-0.5), runs, dy)


def found(case: Case, *, bf16: bool) -> Found:
    """The product and its gradients as a model has them."""
    leaves = [part.clone().requires_grad_() for part in case[:4]]
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = generated_product(*leaves, case.runs)
    y.backward(case.dy.to(y.dtype))
    dh, ds, d_by_scenario, d_always = (leaf.grad for leaf in leaves)
    return Found(y.detach(), dh, ds, d_by_scenario, d_always)


def exactly(case: Case) -> Found:
    """In double precision, W and dW of every row."""
    h, s, by_scenario, always, runs, dy = case.double()
    w = per_row(torch.einsum("qs,xys->qxy", s, by_scenario) + always, runs)
    of_rows = per_row(s, runs)
    dw = torch.einsum("brx,bry->bxy", h, dy)
    ds = torch.einsum("bxy,xys->bs", dw, by_scenario)
    key = per_row(torch.arange(len(s)).double(), runs).long()
    return Found(
        torch.einsum("brx,bxy->bry", h, w),
        torch.einsum("bry,bxy->brx", dy, w),
        torch.zeros_like(s).index_add_(0, key, ds),
        torch.einsum("bxy,bs->xys", dw, of_rows),
        dw.sum(dim=0),
    )


def errors(one: Found, truth: Found) -> dict[str, float]:
    """Root mean squares of the differences, as shares of those of the truth."""
    return {
        name: float((of_one.double() - of_truth).norm() / of_truth.norm())
        for name, of_one, of_truth in zip(Found._fields, one, truth, strict=True)
    }


RUNS = st.lists(st.tuples(st.integers(1, 70), st.integers(1, 21)), min_size=1, max_size=3, unique_by=lambda run: run[1])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    runs=RUNS.map(lambda runs: tuple(sorted(runs, key=lambda run: run[1]))),
    r=st.sampled_from([1, 4, 5]),
    s=st.sampled_from([32, 64, 96]),
    x=st.sampled_from([64, 128, 192]),
    y=st.sampled_from([64, 128]),
)
def test_the_product_and_its_gradients(
    bf16: bool, seed: int, runs: generated.Runs, r: int, s: int, x: int, y: int
) -> None:
    case = random_case(seed, runs=runs, r=r, s=s, x=x, y=y)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        assert kernel.fits(*case[:3])
    of_case = errors(found(case, bf16=bf16), exactly(case))
    assert max(of_case.values()) < (2**-7 if bf16 else 2e-6), of_case


def test_no_further_from_the_truth_than_pytorch(bf16: bool) -> None:
    case = random_case(0, runs=((70, 1), (30, 3), (2, 50)), r=4, s=64, x=256, y=512)
    truth = exactly(case)
    by_kernel = errors(found(case, bf16=bf16), truth)
    with by_pytorch():
        of_pytorch = errors(found(case, bf16=bf16), truth)
    for name, error in by_kernel.items():
        assert error <= (1.1 if bf16 else 3) * of_pytorch[name], name  # in fp32 sums are one after another


def test_more_keys_than_are_taken_at_a_time(bf16: bool) -> None:
    case = random_case(3, runs=((300, 1), (7, 2)), r=1, s=32, x=64, y=64)
    of_case = errors(found(case, bf16=bf16), exactly(case))
    assert max(of_case.values()) < (2**-7 if bf16 else 2e-6), of_case


def test_a_vector_has_the_same_product_in_any_company(bf16: bool) -> None:
    h, s, by_scenario, always, runs, dy = random_case(1, runs=((90, 1), (40, 7)), r=4, s=64, x=256, y=64)
    together = found(Case(h, s, by_scenario, always, runs, dy), bf16=bf16)
    alone = found(Case(h[17:18], s[17:18], by_scenario, always, ((1, 1),), dy[17:18]), bf16=bf16)
    assert torch.equal(alone.y, together.y[17:18])
    assert torch.equal(alone.dh, together.dh[17:18])
    rows = slice(90 + 3 * 7, 90 + 4 * 7)
    some = found(Case(h[rows], s[93:94], by_scenario, always, ((1, 7),), dy[rows]), bf16=bf16)
    assert torch.equal(some.y, together.y[rows])
    assert torch.equal(some.dh, together.dh[rows])
    assert torch.equal(some.ds, together.ds[93:94])


def test_threads_share_the_columns(bf16: bool) -> None:
    case = random_case(2, runs=((65, 1), (3, 20)), r=4, s=64, x=256, y=512)
    threads = torch.get_num_threads()
    by_number = []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            by_number.append(found(case, bf16=bf16))
    finally:
        torch.set_num_threads(threads)
    for one, three in zip(*by_number, strict=True):
        assert torch.equal(one, three)


@pytest.mark.parametrize(("s", "x", "y"), [(16, 128, 64), (64, 48, 64), (64, 128, 48), (64, 144, 64)])
def test_other_sizes_are_pytorchs(bf16: bool, s: int, x: int, y: int) -> None:
    case = random_case(3, runs=((5, 2),), r=1, s=s, x=x, y=y)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        assert not kernel.fits(*case[:3])
    of_case = errors(found(case, bf16=bf16), exactly(case))
    assert max(of_case.values()) < (2**-6 if bf16 else 2e-6), of_case


@pytest.mark.parametrize("in_bf16", [False, True])
def test_without_the_kernel_pytorch_answers(in_bf16: bool) -> None:
    case = random_case(4, runs=((5, 2), (3, 9)), r=4, s=64, x=128, y=64)
    with by_pytorch():
        of_case = errors(found(case, bf16=in_bf16), exactly(case))
    assert max(of_case.values()) < (2**-6 if in_bf16 else 2e-6), of_case


def test_double_precision_is_pytorchs() -> None:
    case = random_case(5, runs=((5, 2),), r=1, s=64, x=128, y=64).double()
    assert not kernel.fits(*case[:3])
    assert max(errors(found(case, bf16=False), exactly(case)).values()) < 1e-12
