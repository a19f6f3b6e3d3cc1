"""Eq. 19-20 and the step from a representation to a log-rate."""

import math

import pytest
import torch

from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.losses import parameter_groups, poisson_loss
from m2m_model.output import LogRate, history_rate
from m2m_model.zoo.m2m import M2M
from tests.model.factories import SMALL, make_spec


def test_eq_20_poisson_loss() -> None:
    z, y, weights = torch.randn(4, 2), torch.rand(4, 2), torch.tensor([2.0, 0.5])
    slow = sum(weights[t] * (math.exp(z[i, t]) - y[i, t] * z[i, t]) for i in range(4) for t in range(2))
    torch.testing.assert_close(poisson_loss(z, y, weights), slow)


def test_poisson_loss_is_least_at_the_label() -> None:
    y = torch.tensor([[0.5, 3.0, 40.0]])
    z = y.log().requires_grad_()
    poisson_loss(z, y, torch.ones(3)).backward()
    torch.testing.assert_close(z.grad, torch.zeros(1, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("fields", [{}, {"meta_attention": False}, {"meta_tower": False}, {"transformer": False}])
def test_eq_19_groups_hold_each_weight_once_without_embeddings_and_biases(fields: dict[str, object]) -> None:
    model = M2M(SMALL.model_copy(update=fields), make_spec())
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model)
    meta, network = ({names[p] for p in group} for group in groups)
    left_out = set(names.values()) - meta - network
    assert len(groups.meta) + len(groups.network) + len(left_out) == len(names)
    assert meta == {name for name in names.values() if "_generator" in name}
    assert all("embedding" in name or name.endswith(".bias") for name in left_out)
    assert {"output.weight", "experts.linear.weight", "knowledge.linear.weight", "attention.v"} <= network


def test_log_rate_offset_and_clamps() -> None:
    spec: DatasetSpec = make_spec(tasks=2)
    module = LogRate(spec, 3, offset=True)
    history = torch.tensor([[[7.0, 0.0, 14.0, 0.0, 20.0], [0.0, 0.0, 0.0, 0.0, 0.0]]])
    high = module(torch.full((1, 2, 3), 1e6) * module.weight.sign(), history)
    assert high[0, 0].item() == pytest.approx(math.log(7))  # at most every day of the horizon
    assert high[0, 1].item() == pytest.approx(math.log(100) + 3)
    low = module(torch.full((1, 2, 3), -1e5) * module.weight.sign(), history)
    assert (low < -100).all()  # no lower clamp


@pytest.mark.parametrize(("weeks", "windows"), [(1, [7, "T"]), (3, [7, 14, "T"]), (5, [7, 14, 28, "T"])])
def test_offset_uses_the_windows_that_the_history_has(weeks: int, windows: list[object]) -> None:
    spec = make_spec(tasks=1, weeks=weeks)
    weekly = [float(1 + 2 * week) for week in range(weeks)]
    rates = [
        20.0 / spec.sequence_length if days == "T" else sum(weekly[: days // 7]) / days  # type: ignore[operator]
        for days in windows
    ]
    expected = 0.1 + spec.horizon * sum(rates) / len(rates)
    assert history_rate(torch.tensor([[[*weekly, 20.0]]]), spec).item() == pytest.approx(expected)


def test_with_an_offset_the_first_forecast_is_near_it() -> None:
    spec = make_spec()
    with_offset = M2M(ModelConfig(**{**SMALL.model_dump(), "offset": "history"}), spec)
    without = M2M(SMALL, spec)
    assert with_offset.output.bias.tolist() == [0.0] * 3
    assert without.output.bias.exp().tolist() == pytest.approx([task.mean_label for task in spec.tasks])


def test_a_task_without_any_label_keeps_log_rates_finite() -> None:
    spec = make_spec(tasks=1)
    nothing = spec.tasks[0].model_copy(update={"mean_label": 0.0, "max_label": 0.0, "daily_max": None})
    module = LogRate(spec.model_copy(update={"tasks": (nothing,)}), 3, offset=False)
    assert module(torch.randn(2, 1, 3), torch.zeros(2, 1, spec.history_size)).isfinite().all()
