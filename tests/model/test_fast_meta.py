"""The fast form of generated products against the frozen twin that makes a matrix for every row."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from benchmarks.train.bmm_twin import BmmBody, BmmUnit, bmm_twin
from benchmarks.train.world import paper_loss
from m2m_model import generated, kernel
from m2m_model.backbone import knowledge_ids
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.generated import group_rows
from m2m_model.meta import Generator, MetaUnit
from m2m_model.model import Model
from m2m_model.zoo.m2m import M2M
from m2m_model.zoo.registry import build_model
from tests.model.factories import SMALL, make_batch, make_spec, shaken

random_sizes = settings(max_examples=15, deadline=None, derandomize=True)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def with_keys(spec: DatasetSpec, rows: int, keys: int, *, seed: int, dtype: torch.dtype) -> Batch:
    """Rows that have at most so many distinct keys; all distinct ones only as far as the spec's vocabularies go."""
    batch = make_batch(spec, rows, seed=seed, dtype=dtype)
    key = torch.randint(0, keys, (rows,), generator=torch.Generator().manual_seed(seed))
    ids = make_batch(spec, keys, seed=seed + 1)
    return replace(
        batch, profile=ids.profile[key], attributes=ids.attributes[key], scenario=ids.scenario[key], labels=batch.labels
    )


def assert_close(fast: Tensor, slow: Tensor, name: str = "", *, scale: float = 0.0) -> None:
    """Relative to the largest element, or to ``scale``: single elements, and the softmax's whole gradient, cancel."""
    error, largest = (float(x.detach().abs().max()) for x in (fast - slow, slow))
    assert error <= TOLERANCE[fast.dtype] * max(largest, scale), f"{name}: {error} of {largest}, {scale}"


def twin_gradients(model: M2M, twin: BmmBody) -> dict[nn.Parameter, Tensor]:
    """The twin's gradients of its own meta parameters, for the model's parameter of the same meaning."""

    def of(linear: nn.Linear, *parts: Generator) -> dict[nn.Parameter, Tensor]:
        rows = [len(part.always) for part in parts]
        columns = parts[0].always.shape[1]
        weight = linear.weight.grad.unflatten(0, (-1, columns)).split(rows)
        bias = linear.bias.grad.unflatten(0, (-1, columns)).split(rows)
        return dict(zip([p.by_scenario for p in parts], weight, strict=False)) | dict(
            zip([p.always for p in parts], bias, strict=False)
        )

    def unit(fast: MetaUnit, slow: BmmUnit) -> dict[nn.Parameter, Tensor]:
        parts = [[weight] for weight in fast.weight_generators]
        if fast.tail_generator is not None:
            parts[0].append(fast.tail_generator)
        pairs = [
            *zip(slow.weights, parts, strict=False),
            *zip(slow.biases, [[bias] for bias in fast.bias_generators], strict=False),
        ]
        return {p: grad for linear, generators in pairs for p, grad in of(linear, *generators).items()}

    gradients = {}
    for fast, slow in zip(model.attention.metas, twin.attention, strict=False):
        gradients |= unit(fast, slow)
    for fasts, slows in zip(model.tower.metas, twin.tower, strict=False):
        for fast, slow in zip(fasts, slows, strict=False):
            gradients |= unit(fast, slow)
    return gradients


def compare(config: ModelConfig, spec: DatasetSpec, batch: Batch, *, dtype: torch.dtype) -> None:
    """With weights of all signs and sizes."""
    model = shaken(build_model(config, spec)).to(dtype)
    for parameter in model.parameters():
        parameter.data *= 0.4  # keeps log-rates below their ceiling, where all rows are alike
    compare_model(model, spec, batch, dtype=dtype)


def compare_model(model: Model, spec: DatasetSpec, batch: Batch, *, dtype: torch.dtype) -> None:
    """Outputs and all gradients."""
    twin = bmm_twin(model)
    assert isinstance(model.body, M2M)
    assert isinstance(twin.body, BmmBody)
    weights = torch.ones(len(spec.tasks), dtype=dtype)
    outputs, gradients = [], []
    for each in (twin, model):
        model.zero_grad()
        log_rates = each(batch)
        paper_loss(each, weights)(log_rates, batch).backward()
        outputs.append(log_rates)
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert_close(outputs[1], outputs[0], "log-rates")
    names = {parameter: name for name, parameter in model.named_parameters()}
    expected = gradients[0] | {names[p]: grad for p, grad in twin_gradients(model.body, twin.body).items()}
    assert expected.keys() == gradients[1].keys() == set(names.values())
    scale = max(float(gradient.abs().max()) for gradient in expected.values()) / 100
    for name, gradient in expected.items():
        assert_close(gradients[1][name], gradient, name, scale=scale)


@pytest.fixture(params=[1, 4, 1000], ids=lambda rows: f"rows_alone={rows}", autouse=True)
def rows_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of a test are small: from how many rows on those that are alone are multiplied without W."""
    monkeypatch.setattr(generated, "ROWS_ALONE", request.param)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shared", [False, True])
@given(
    rows=st.integers(1, 24),
    keys=st.integers(1, 24),
    experts=st.integers(1, 4),
    view=st.integers(1, 9),
    knowledge=st.integers(1, 6),
    layers=st.integers(1, 3),
    tower_layers=st.integers(1, 2),
    seed=st.integers(0, 99),
)
@random_sizes
def test_the_fast_form_is_the_twin(
    dtype: torch.dtype,
    shared: bool,
    rows: int,
    keys: int,
    experts: int,
    view: int,
    knowledge: int,
    layers: int,
    tower_layers: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    spec = make_spec(length=3)
    config = ModelConfig(
        embedding_dim=4,
        experts=experts,
        view_dim=view,
        knowledge_dim=knowledge,
        meta_layers=layers,
        tower_layers=tower_layers,
        share_meta_across_tasks=shared,
    )
    compare(config, spec, with_keys(spec, rows, keys, seed=seed, dtype=dtype), dtype=dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("slice_bytes", [1, 700, 1 << 30])
@pytest.mark.parametrize("keys", ["single", "distinct", "all of a size but one"])
def test_the_fast_form_is_the_twin_however_it_is_cut(
    keys: str, slice_bytes: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated, "SLICE_BYTES", slice_bytes)
    spec = make_spec(length=3)
    batch = make_batch(spec, 12, dtype=dtype)
    one = torch.zeros(12, dtype=torch.int32)
    number = {"single": one, "distinct": torch.arange(12), "all of a size but one": torch.arange(12) // 5}[keys]
    pairs = {"scenario": number.int() % 4, "profile": (number.int() // 4).unsqueeze(1), "attributes": one.unsqueeze(1)}
    batch = replace(batch, **pairs)
    assert len(group_rows(knowledge_ids(SMALL, batch)).ids) == number.unique().numel()
    compare(SMALL, spec, batch, dtype=dtype)


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_at_the_papers_view_size(shared: bool, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the weights that training starts from; by the kernel, where the core has one, and without."""
    if not native:
        monkeypatch.setattr(kernel, "machine", lambda *, bf16: None)
    torch.manual_seed(0)
    spec = make_spec(length=4, tasks=2)
    config = ModelConfig(view_dim=256, knowledge_dim=64, meta_layers=2, tower_layers=1, share_meta_across_tasks=shared)
    batch = with_keys(spec, 20, 9, seed=1, dtype=torch.float32)
    compare_model(build_model(config, spec), spec, batch, dtype=torch.float32)


@given(keys=st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), max_size=20))
@random_sizes
def test_grouped_rows_lie_key_by_key(keys: list[list[int]]) -> None:
    ids = torch.tensor(keys, dtype=torch.int32).view(-1, 2)
    grouped = group_rows(ids)
    assert sorted(grouped.order.tolist()) == list(range(len(keys)))
    sizes = [rows for count, rows in grouped.runs for _ in range(count)]
    repeated = [key for key, rows in zip(grouped.ids.tolist(), sizes, strict=True) for _ in range(rows)]
    assert ids[grouped.order].tolist() == repeated
    assert sizes == sorted(Counter(map(tuple, keys)).values())
    assert [rows for _, rows in grouped.runs] == sorted({rows for _, rows in grouped.runs})


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_rows_without_knowledge_have_one_key(rows: int) -> None:
    spec = make_spec().model_copy(update={"profile": (), "scenario_attributes": ()})
    bare = {"meta_attention": "none", "meta_tower": "none", "scenario_id_embedding": False}
    model = build_model(SMALL.model_copy(update=bare), spec).eval()
    batch = make_batch(spec, 5)
    with torch.inference_mode():
        together = model(batch)
        assert model(batch.select(slice(0, rows))).shape[0] == rows
        alone = torch.cat([model(batch.select(slice(row, row + 1))) for row in range(5)])
    torch.testing.assert_close(together, alone)


@given(keys=st.lists(st.integers(0, 30), max_size=60), at_a_time=st.integers(1, 9))
@random_sizes
def test_without_gradients_keys_come_in_blocks(keys: list[int], at_a_time: int) -> None:
    runs = group_rows(torch.tensor(keys, dtype=torch.int32).view(-1, 1)).runs
    distinct = sum(count for count, _ in runs)
    h, s = torch.randn(len(keys), 2, 3).double(), torch.randn(distinct, 4).double()
    by_s, always = torch.randn(3, 5, 4).double(), torch.randn(3, 5).double()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(generated, "KEYS_AT_A_TIME", at_a_time)
        blocks = generated.generated_product(h, s, by_s, always, runs)
    whole = generated.generated_product(h, s, by_s, always, runs)
    torch.testing.assert_close(blocks, whole, rtol=1e-12, atol=1e-12)


def test_inference_leaves_room_that_others_can_use() -> None:
    """Room for W outlives the call, and not all that writes may write to tensors made in inference mode."""
    h, s, by_s, always = torch.randn(40, 2, 3), torch.randn(40, 4), torch.randn(3, 5, 4), torch.randn(3, 5)
    runs = ((40, 1),)
    expected = generated.generated_product(h, s, by_s, always, runs)
    generated._workspace.bytes = torch.empty(0, dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(generated.generated_product(h, s, by_s, always, runs), expected)
    with torch.no_grad():
        torch.testing.assert_close(generated.generated_product(h, s, by_s, always, runs), expected)
