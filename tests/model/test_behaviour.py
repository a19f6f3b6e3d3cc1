"""What must hold of the model as a whole, whatever its formulas."""

import pytest
import torch

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.losses import poisson_loss
from m2m_model.zoo.registry import build_model
from tests.model.factories import SMALL, make_batch, make_spec

VARIANTS = [
    {},
    {"share_meta_across_tasks": True},
    {"dense_inputs": True, "offset": "history"},
    {"transformer": False, "pool": "mean"},
    {"meta_attention": False, "pool": "last"},
    {"meta_tower": False},
    {"scenario_id_embedding": False},
]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def variant(fields: dict[str, object]) -> ModelConfig:
    return SMALL.model_copy(update=fields)


@pytest.mark.parametrize("fields", VARIANTS)
def test_a_row_does_not_depend_on_its_batch(fields: dict[str, object]) -> None:
    spec = make_spec()
    model = build_model(variant(fields), spec).double()
    batch = make_batch(spec, 7)
    whole = model(doubled(batch))
    alone = torch.cat([model(doubled(batch.select(slice(i, i + 1)))) for i in range(7)])
    order = torch.randperm(7)
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(doubled(batch.select(order))), whole[order], rtol=1e-9, atol=1e-9)


def doubled(batch: Batch) -> Batch:
    fields = vars(batch)
    return Batch(**{k: v.double() if v.is_floating_point() else v for k, v in fields.items()})


@pytest.mark.parametrize("fields", VARIANTS)
def test_every_parameter_receives_gradient(fields: dict[str, object]) -> None:
    spec = make_spec()
    model = build_model(variant(fields), spec)
    batch = make_batch(spec, 64)
    poisson_loss(model(batch), batch.labels, torch.ones(3)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("fields", VARIANTS)
def test_an_empty_batch_gives_zero_gradients(fields: dict[str, object]) -> None:
    spec = make_spec()
    model = build_model(variant(fields), spec)
    rows = model(make_batch(spec, 2))[:0]
    poisson_loss(rows, torch.zeros(0, 3), torch.ones(3)).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_it_overfits_a_small_batch() -> None:
    spec = make_spec()
    model = build_model(SMALL.model_copy(update={"view_dim": 16}), spec)
    batch = make_batch(spec, 16)
    batch.labels[:, 0] = batch.labels[:, 0].clamp(max=7)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(600):
        optimizer.zero_grad()
        poisson_loss(model(batch), batch.labels, torch.ones(3) / 16).backward()
        optimizer.step()
    assert (model(batch).exp() - batch.labels).abs().mean() < 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_initial_log_rates_are_small_at_the_papers_size(seed: int) -> None:
    torch.manual_seed(seed)
    spec = make_spec(length=40, behavior=5, performance=5, tasks=5)
    config = ModelConfig(share_meta_across_tasks=True)
    model = build_model(config, spec)
    batch = make_batch(spec, 32)
    with torch.no_grad():
        plain = model(batch) - model.output.bias
    assert plain.abs().max() < 1
    assert model.output.weight.abs().min() > 0


def test_without_its_id_a_scenario_is_scored_from_attributes_alone() -> None:
    spec = make_spec()
    model = build_model(variant({"scenario_id_embedding": False}), spec)
    batch = make_batch(spec, 5)
    unseen = Batch(**{**vars(batch), "scenario": torch.zeros_like(batch.scenario)})
    torch.testing.assert_close(model(batch), model(unseen), rtol=0, atol=0)


def test_ablations_remove_what_they_name() -> None:
    spec = make_spec()

    def names(**fields: object) -> set[str]:
        return {name for name, _ in build_model(variant(fields), spec).named_parameters()}

    full = names()
    assert not any("tower" in name for name in names(meta_tower=False))
    assert not any("attentions" in name for name in names(transformer=False))
    assert not any("attention.meta" in name for name in names(meta_attention=False))
    assert any("tower" in name for name in full)
    assert any("attention.meta" in name for name in full)


def test_unknown_model_is_named() -> None:
    with pytest.raises(UserError, match=r"model.name must be one of \['m2m'\], however: 'm3m'"):
        build_model(ModelConfig(name="m3m"), make_spec())


@pytest.mark.parametrize(("heads", "dim"), [(2, 3), (3, 4)])
def test_indivisible_heads_are_refused(heads: int, dim: int) -> None:
    with pytest.raises(ValueError, match="dim must be divisible by heads"):
        build_model(SMALL.model_copy(update={"heads": heads, "embedding_dim": dim}), make_spec(behavior=2))
