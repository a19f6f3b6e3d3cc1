"""The predictive distribution against formulas written out, and what is read off it against brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from m2m_model.contracts.schema import QUANTILES
from m2m_model.contracts.spec import AMOUNTS
from m2m_model.distribution import Bins, bin_starts, bin_values, quantiles, smape_actions
from m2m_model.history import recent_level
from m2m_model.output import MEAN, POSITIVE, Output
from tests.model.factories import make_mixed_spec, make_spec

SPEC = make_spec(tasks=2)  # a task of at most 7 days, and one of up to 100 units


def parameters(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(rows, 2, dtype=torch.float64) for _ in range(3))  # type: ignore[return-value]


def masses_of(rows: int) -> tuple[Tensor, Tensor]:
    bins = Bins(SPEC).double()
    return bins.log_masses(*parameters(rows)).exp(), bins.values


def test_bins_of_whole_numbers_are_the_numbers_while_there_are_few() -> None:
    days = bin_starts(SPEC.tasks[0], SPEC.horizon)
    assert days.tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert bin_values(days, whole=True).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]


def test_bins_of_decimals_are_of_equal_width_in_the_logarithm() -> None:
    task = SPEC.tasks[1].model_copy(update={"scale": 2})
    starts = bin_starts(task, SPEC.horizon)
    assert starts[[0, -1]].tolist() == pytest.approx([0.01, 100.0])
    np.testing.assert_allclose(np.diff(np.log(starts)), np.log(1e4) / (len(starts) - 1))
    values = bin_values(starts, whole=False)
    assert (values[:-1] > starts[:-1]).all()
    assert (values[:-1] < starts[1:]).all()


def test_no_outcome_is_beyond_the_largest_possible_label() -> None:
    bounded, unbounded = (task.model_copy(update={"scale": 2}) for task in SPEC.tasks)
    bins = Bins(SPEC.model_copy(update={"tasks": (bounded, unbounded)}))
    assert bins.values[0].max() == bounded.largest_label(SPEC.horizon) == 7.0
    assert bins.values[1].max() > unbounded.max_label


def test_every_label_has_an_outcome() -> None:
    bins = Bins(SPEC)
    labels = torch.tensor([[0.0, 0.0], [1.0, 1.0], [7.0, 3.0], [7.0, 250.0]])
    largest = len(bin_starts(SPEC.tasks[1], SPEC.horizon))
    assert bins.outcomes(labels).tolist() == [[0, 0], [1, 1], [7, 3], [7, largest]]


def test_masses_are_the_differences_of_a_logistic_beside_a_mass_at_zero() -> None:
    bins = Bins(SPEC).double()
    positive, location, log_scale = parameters(3)
    fast = bins.log_masses(positive, location, log_scale).exp()

    def sigma(x: float) -> float:
        return 1 / (1 + math.exp(-x)) if x > -700 else 0.0

    for b in range(3):
        for t in range(2):
            starts = bin_starts(SPEC.tasks[t], SPEC.horizon)
            edges = [-math.inf, *np.log1p(starts[1:]), math.inf]
            scale, p = math.exp(log_scale[b, t]), sigma(positive[b, t].item())
            levels = [sigma((edge - location[b, t].item()) / scale) for edge in edges]
            slow = [1 - p, *(p * (high - low) for low, high in itertools.pairwise(levels))]
            np.testing.assert_allclose(fast[b, t, : len(slow)].numpy(), slow, atol=1e-7)
            assert fast[b, t].sum().item() == pytest.approx(1.0, abs=1e-6)


def test_log_masses_far_from_the_label_and_their_gradients_stay_finite() -> None:
    bins = Bins(SPEC)
    values = [torch.full((1, 2), x, requires_grad=True) for x in (-80.0, 60.0, -4.0)]
    log_masses = bins.log_masses(*values)
    assert log_masses.isfinite().all()
    log_masses[..., [0, 1, 5]].sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in values)


def test_quantiles() -> None:
    values = torch.tensor([[0.0, 1.0, 2.0, 5.0]])
    masses = torch.tensor([[[0.5, 0.2, 0.2, 0.1]], [[0.0, 0.0, 0.0, 1.0]]])
    assert quantiles(masses, values, [0.1, 0.6, 0.95]).tolist() == [[[0.0, 1.0, 5.0]], [[5.0, 5.0, 5.0]]]


def test_the_smape_action_is_the_best_there_is() -> None:
    masses, values = masses_of(20)
    fast = smape_actions(masses, values)
    for b in range(20):
        for t in range(2):

            def expected(forecast: float, b: int = b, t: int = t) -> float:
                terms = [
                    0.0 if forecast == y == 0 else abs(forecast - y) / ((forecast + y) / 2) for y in values[t].tolist()
                ]
                return sum(p * term for p, term in zip(masses[b, t].tolist(), terms, strict=True))

            assert expected(fast[b, t].item()) == pytest.approx(min(expected(v) for v in values[t].tolist()))


def test_outputs_of_every_kind_start_at_what_the_history_says() -> None:
    spec = make_mixed_spec()
    output = Output(spec, 3, offset=True, distribution=True)
    history = torch.rand(5, 4, spec.history_size)
    forecasts = output.forecasts(output(torch.zeros(5, 4, 3), history))
    torch.testing.assert_close(forecasts.centre, recent_level(history, spec).double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(forecasts.mean, forecasts.centre)
    assert (forecasts.quantiles.shape, forecasts.smape.shape) == ((5, 4, len(QUANTILES)), (5, 4))


def test_several_models_forecast_the_mixture_of_their_distributions() -> None:
    spec = make_mixed_spec()
    output, history = Output(spec, 3, offset=True, distribution=True), torch.rand(6, 4, spec.history_size)
    members = [output(torch.randn(6, 4, 3) * 8, history) for _ in range(3)]
    mixture, alone = output.forecasts(*members), [output.forecasts(member) for member in members]
    for name in ("mean", "centre"):
        expected = sum(getattr(one, name) for one in alone) / 3
        torch.testing.assert_close(getattr(mixture, name), expected)
    assert output.bins is not None
    values = output.bins.values.double()
    for row in range(6):
        for task in range(4):
            if spec.tasks[task].kind not in AMOUNTS:
                continue
            shapes = [member.double()[..., POSITIVE:MEAN].unbind(-1) for member in members]
            masses = sum(output.bins.log_masses(*shape)[row, task].exp() for shape in shapes) / 3
            (median,) = [index for index, level in enumerate(QUANTILES.values()) if level == 0.5]
            reached = int((masses.cumsum(0) < 0.5).sum())
            assert mixture.quantiles[row, task, median] == values[task, reached]
            labels = values[task].tolist()
            costs = [
                sum(
                    p * (abs(y - f) / ((y + f) / 2) if y + f else 0.0)
                    for p, y in zip(masses.tolist(), labels, strict=True)
                )
                for f in labels
            ]
            assert costs[labels.index(mixture.smape[row, task].item())] == pytest.approx(min(costs))


def test_without_an_offset_outputs_start_at_the_training_means() -> None:
    spec = make_mixed_spec()
    output = Output(spec, 3, offset=False, distribution=True)
    forecasts = output.forecasts(output(torch.zeros(1, 4, 3), torch.zeros(1, 4, spec.history_size)))
    expected = pytest.approx([task.mean_label for task in spec.tasks], rel=1e-4)
    assert forecasts.centre[0].tolist() == expected
    assert forecasts.mean[0].tolist() == expected


def test_levels_of_rates_and_outcomes_are_not_scaled_to_the_horizon() -> None:
    spec = make_mixed_spec(weeks=2)
    history = torch.tensor([[[0.0, 0.0, 0.0], [0.2, 0.1, 0.3], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    level = recent_level(history, spec)[0]
    assert level[1].item() == pytest.approx(0.1 * spec.tasks[1].mean_label + 0.2)
    assert level[2].item() == pytest.approx((0.5 + 1) / 3)
