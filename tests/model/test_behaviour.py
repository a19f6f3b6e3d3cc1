"""What must hold of the model as a whole, whatever its formulas."""

import pytest
import torch
from jaxtyping import TypeCheckError

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.losses import poisson
from m2m_model.zoo.registry import MODELS, build_model
from tests.model.factories import SMALL, make_batch, make_spec

VARIANTS = [
    *({"name": name} for name in MODELS),
    {"meta_layers": 3, "tower_layers": 1},
    {"share_meta_across_tasks": True},
    {"dense_inputs": True, "history_quartiles": True, "offset": "history"},
    {"distribution": True},
    {"sequence_days": 2, "dense_inputs": True},
    {"name": "star", "scenario_id_embedding": False, "dense_inputs": True},
    {"transformer": False, "pool": "mean"},
    {"meta_attention": "none", "pool": "last"},
    {"meta_tower": "none"},
    {"meta_attention": "none", "meta_tower": "none"},
    {"meta_attention": "learned", "meta_tower": "learned"},
    {"meta_attention": "learned", "meta_tower": "none", "share_meta_across_tasks": True},
    {"scenario_id_embedding": False},
    {"feature_gates": True, "feature_norm": True, "dense_inputs": True},
]
each_variant = pytest.mark.parametrize("fields", VARIANTS, ids=str)


def variant(fields: dict[str, object]) -> ModelConfig:
    return SMALL.model_copy(update=fields)


@each_variant
def test_a_row_does_not_depend_on_its_batch(fields: dict[str, object]) -> None:
    spec = make_spec()
    model = build_model(variant(fields), spec).double()
    batch = make_batch(spec, 7, dtype=torch.float64)
    whole = model(batch)
    alone = torch.cat([model(batch.select(slice(i, i + 1))) for i in range(7)])
    order = torch.randperm(7)
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(batch.select(slice(2, 5))), whole[2:5], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(batch.select(order)), whole[order], rtol=1e-9, atol=1e-9)


@each_variant
def test_every_parameter_receives_gradient(fields: dict[str, object]) -> None:
    spec = make_spec()
    model = build_model(variant(fields), spec)
    batch = make_batch(spec, 64)
    output = model(batch)
    (output * torch.randn_like(output)).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@each_variant
def test_an_empty_batch_gives_no_rows_and_zero_gradients(fields: dict[str, object]) -> None:
    spec = make_spec()
    model = build_model(variant(fields), spec)
    output = model(make_batch(spec, 0))
    assert output.shape == (0, 3, 5 if "distribution" in fields else 1)
    output.sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.any()] == []


@pytest.mark.parametrize(
    "fields", [*({"name": name} for name in MODELS), {"feature_gates": True, "feature_norm": True}], ids=str
)
def test_it_overfits_a_small_batch(fields: dict[str, object]) -> None:
    spec = make_spec()
    model = build_model(variant({**fields, "view_dim": 16}), spec)
    batch = make_batch(spec, 16)
    batch.labels[:, 0] = batch.labels[:, 0].clamp(max=7)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(600):
        optimizer.zero_grad()
        poisson(model(batch)[..., 0], batch.labels).mean().backward()
        optimizer.step()
        if step % 25 == 0 and (model.output.forecasts(model(batch)).mean - batch.labels).abs().mean() < 0.1:
            return
    pytest.fail("the batch was not learned by heart")


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(("shared", "view_dim"), [(True, 256), (False, 32)])
def test_initial_log_means_are_small(shared: bool, view_dim: int, dense: bool, seed: int) -> None:
    """At the paper's sizes; units of each task at a smaller view, 384 M parameters a task being too many here."""
    check_initial_log_means(
        ModelConfig(share_meta_across_tasks=shared, view_dim=view_dim, dense_inputs=dense), seed=seed
    )


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"m2m"}))
def test_initial_log_means_of_the_other_models_are_small(name: str) -> None:
    check_initial_log_means(ModelConfig(name=name, view_dim=32, dense_inputs=True), seed=0)


def check_initial_log_means(config: ModelConfig, *, seed: int) -> None:
    torch.manual_seed(seed)
    spec = make_spec(length=40, behavior=5, performance=5, tasks=5)
    model = build_model(config, spec)
    batch = make_batch(spec, 32)
    batch.dense.mul_(12)  # log1p of up to 160,000
    with torch.no_grad():
        plain = model(batch)[..., 0] - model.output.bias[0]
    assert plain.abs().max() < 1
    assert model.output.weight.abs().min() > 0


def test_without_its_id_a_scenario_is_scored_from_attributes_alone() -> None:
    spec = make_spec()
    batch = make_batch(spec, 5)
    by_attributes = build_model(variant({"scenario_id_embedding": False}), spec)
    by_id = build_model(SMALL, spec)
    for index in range(len(spec.scenarios) + 1):
        other = Batch(**{**vars(batch), "scenario": torch.full_like(batch.scenario, index)})
        torch.testing.assert_close(by_attributes(other), by_attributes(batch), rtol=0, atol=0)
        assert not torch.equal(by_id(other), by_id(batch))


def test_ablations_remove_what_they_name_and_nothing_else() -> None:
    spec = make_spec()

    def names(**fields: object) -> set[str]:
        return {name for name, _ in build_model(variant(fields), spec).named_parameters()}

    full = names()
    removed = {
        "body.tower.": names(meta_tower="none"),
        "body.attention.metas.": names(meta_attention="none"),
        "body.backbone.sequences.": names(transformer=False),
    }
    for part, left in removed.items():
        assert full - left
        assert all(name.startswith(part) for name in full - left)
    assert removed["body.attention.metas."] - full == {"body.attention.hidden.weight", "body.attention.hidden.bias"}
    assert all(".attention." in name for name in full - removed["body.backbone.sequences."])


def test_a_task_of_a_single_task_model_has_nothing_of_the_others() -> None:
    spec = make_spec()
    for name in ("single_task", "embedding_mlp"):
        model = build_model(variant({"name": name}), spec)
        model(make_batch(spec, 8))[:, 1].sum().backward()
        touched = {
            n.split(".")[2] for n, p in model.body.named_parameters("body") if p.grad is not None and p.grad.any()
        }
        assert touched == {"1"}


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"m2m"}))
def test_other_models_need_neither_profile_nor_scenario(name: str) -> None:
    bare = make_spec().model_copy(update={"profile": (), "scenario_attributes": ()})
    model = build_model(variant({"name": name, "scenario_id_embedding": False}), bare)
    assert model(make_batch(bare, 2)).shape == (2, 3, 1)


def test_a_model_without_one_of_the_sequences() -> None:
    spec = make_spec(behavior=0)
    assert build_model(SMALL, spec)(make_batch(spec, 2)).shape == (2, 3, 1)


def test_a_model_of_fewer_days_sees_the_last_alone() -> None:
    spec = make_spec()
    columns, days = len(spec.dense_columns), spec.sequence_length
    assert columns
    model = build_model(variant({"sequence_days": 2, "dense_inputs": True}), spec).double()
    batch = make_batch(spec, 5, dtype=torch.float64)
    older, newest = (batch.select(torch.arange(5)) for _ in range(2))
    for name in ("behavior", "performance"):
        getattr(older, name)[:, :-2] = 0
        getattr(newest, name)[:, -1] = 0
    daily = older.dense[:, : columns * days].view(5, columns, days)
    daily[..., :-2] = -7.0
    torch.testing.assert_close(model(older), model(batch))
    assert not torch.allclose(model(newest), model(batch))
    with pytest.raises(UserError, match=f"must be at most the dataset's {days}"):
        build_model(variant({"sequence_days": days + 1}), spec)


def test_user_mistakes_are_named() -> None:
    spec = make_spec(behavior=2)
    with pytest.raises(UserError, match=r"model.name must be one of \['cgc', .*\], however: 'm3m'"):
        build_model(ModelConfig(name="m3m"), spec)
    with pytest.raises(UserError, match=r"model.heads must divide the behavior sequence's embedding of 9 = .*: 2;"):
        build_model(variant({"embedding_dim": 3}), spec)
    with pytest.raises(UserError, match="needs behavior or performance features"):
        build_model(SMALL, make_spec(behavior=0, performance=0))
    bare = spec.model_copy(update={"profile": (), "scenario_attributes": ()})
    assert build_model(SMALL, bare)(make_batch(bare, 2)).shape == (2, 3, 1)
    with pytest.raises(UserError, match="scenario knowledge needs"):
        build_model(variant({"scenario_id_embedding": False}), bare)


def test_shapes_are_checked_in_these_tests() -> None:
    """However the suite is run: a check that is silently off would let every annotation rot."""
    with pytest.raises(TypeCheckError):
        build_model(SMALL, make_spec()).body.attention(torch.zeros(2, 3, 6), torch.zeros(1, 6), torch.zeros(2, 2, 5))
