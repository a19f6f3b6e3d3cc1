"""The L2 terms of eq. 19, and the step from a representation to a log-mean."""

import math

import pytest
import torch

from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.history import recent_level
from m2m_model.losses import parameter_groups
from m2m_model.output import Output
from m2m_model.zoo.registry import MODELS, build_model
from tests.model.factories import SMALL, make_spec


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"meta_attention": "none"},
        {"meta_tower": "none"},
        {"transformer": False},
        {"uncertainty_weights": True},
        {"feature_norm": True},
    ],
)
def test_eq_19_groups_hold_each_weight_once_without_embeddings_and_biases(fields: dict[str, object]) -> None:
    model = build_model(SMALL.model_copy(update=fields), make_spec())
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model)
    meta, network = ({names[p] for p in group} for group in groups)
    left_out = set(names.values()) - meta - network
    assert len(groups.meta) + len(groups.network) + len(left_out) == len(names)
    assert meta == {name for name in names.values() if "_generator" in name}
    assert all("embedding" in name or "norm." in name or name.endswith((".bias", "log_variance")) for name in left_out)
    assert {
        "output.weight",
        "body.experts.linear.weight",
        "body.knowledge.linear.weight",
        "body.attention.v",
    } <= network


@pytest.mark.parametrize("name", MODELS)
def test_l2_leaves_biases_scales_and_shifts_alone(name: str) -> None:
    model = build_model(SMALL.model_copy(update={"name": name}), make_spec())
    names = {parameter: name for name, parameter in model.named_parameters()}
    network = {names[parameter] for parameter in parameter_groups(model).network}
    assert not {name for name in network if name.endswith(("bias", "beta", "gamma", "alpha")) or "norm" in name}
    assert "output.weight" in network


def test_log_mean_offset_and_clamps() -> None:
    spec: DatasetSpec = make_spec(tasks=2)
    module = Output(spec, 3, offset=True, distribution=False)
    history = torch.tensor([[[7.0, 0.0, 14.0, 0.0, 20.0], [0.0, 0.0, 0.0, 0.0, 0.0]]])
    high = module(torch.full((1, 2, 3), 1e6) * module.weight[0].sign(), history)
    assert high[0, 0, 0].item() == pytest.approx(math.log(7))  # at most every day of the horizon
    assert high[0, 1, 0].item() == pytest.approx(math.log(100) + 3)
    low = module(torch.full((1, 2, 3), -1e5) * module.weight[0].sign(), history)
    assert (low < -100).all()  # no lower clamp


def test_a_row_that_starts_above_the_ceiling_is_pulled_down() -> None:
    spec = make_spec(tasks=1)
    module = Output(spec, 3, offset=True, distribution=False)
    always_active = torch.full((1, 1, spec.history_size), 7.0)
    always_active[..., -1] = spec.sequence_length
    assert recent_level(always_active, spec).item() > spec.horizon
    log_mean = module(torch.zeros(1, 1, 3), always_active)[..., 0]
    for label, gradient in [(3.0, 7 - 3.0), (8.0, 0.0)]:  # down, never further up
        loss = torch.nn.functional.poisson_nll_loss(log_mean, torch.full((1, 1), label))
        (into_bias,) = torch.autograd.grad(loss, module.bias, retain_graph=True)
        assert into_bias.item() == pytest.approx(gradient, rel=1e-5)


@pytest.mark.parametrize(("weeks", "windows"), [(1, [7, "T"]), (3, [7, 14, "T"]), (5, [7, 14, 28, "T"])])
def test_offset_uses_the_windows_that_the_history_has(weeks: int, windows: list[object]) -> None:
    spec = make_spec(tasks=1, weeks=weeks)
    weekly = [float(1 + 2 * week) for week in range(weeks)]
    rates = [
        20.0 / spec.sequence_length if days == "T" else sum(weekly[: days // 7]) / days  # type: ignore[operator]
        for days in windows
    ]
    expected = 0.1 + spec.horizon * sum(rates) / len(rates)
    assert recent_level(torch.tensor([[[*weekly, 20.0]]]), spec).item() == pytest.approx(expected)


def test_with_an_offset_the_first_forecast_is_near_it() -> None:
    spec = make_spec()
    with_offset = build_model(ModelConfig(**{**SMALL.model_dump(), "offset": "history"}), spec)
    without = build_model(SMALL, spec)
    assert with_offset.output.bias.tolist() == [[0.0] * 3]
    assert without.output.bias[0].exp().tolist() == pytest.approx([task.mean_label for task in spec.tasks])


def test_a_task_without_any_label_keeps_log_means_finite() -> None:
    spec = make_spec(tasks=1)
    nothing = spec.tasks[0].model_copy(update={"mean_label": 0.0, "max_label": 0.0, "daily_max": None})
    module = Output(spec.model_copy(update={"tasks": (nothing,)}), 3, offset=False, distribution=False)
    assert module(torch.randn(2, 1, 3), torch.zeros(2, 1, spec.history_size)).isfinite().all()
