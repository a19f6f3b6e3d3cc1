"""Every part of a task's loss against loops, for all kinds of tasks in one model."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from m2m_model.batch import Batch
from m2m_model.config import LossConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.losses import JointLoss, LabelStatistics, TaskWeights, cell_weights, cross_entropy, poisson, tweedie
from m2m_model.model import Model
from m2m_model.zoo.registry import build_model
from tests.model.factories import SMALL, make_batch, make_mixed_spec, make_spec

WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1])
STATISTICS = LabelStatistics(
    rows=40,
    label_sums=torch.tensor(
        [[0.0] * 4, [9.0, 1.0, 2.0, 400.0], [16.0, 2.0, 3.0, 100.0], [4.0, 3.0, 4.0, 0.0]]
    ).double(),
    exposure_sums=torch.tensor([40.0, 200.0, 40.0, 40.0]).double(),
)


def mixed(**fields: Any) -> tuple[DatasetSpec, Model, Batch]:
    spec = make_mixed_spec()
    model = build_model(SMALL.model_copy(update={"name": "shared_bottom", "offset": "history"} | fields), spec)
    return spec, model, make_batch(spec, 6)


def loss_of(model: Model, **fields: float) -> JointLoss:
    return JointLoss(model, LossConfig(**fields), weights=TaskWeights(WEIGHTS, torch.ones(4)), statistics=STATISTICS)


def slow_likelihood(kind: str, z: float, y: float) -> float:
    if kind == "binary":
        p = 1 / (1 + math.exp(-z))
        return -math.log(p) if y else -math.log(1 - p)
    if kind == "spend":  # power 3/2: -y m^(1-p) / (1-p) + m^(2-p) / (2-p)
        return -y * math.exp(z) ** -0.5 / -0.5 + math.exp(z) ** 0.5 / 0.5
    return math.exp(z) - y * z


def test_the_paper_s_loss_is_the_weighted_sum_of_poisson_losses() -> None:
    spec = make_spec(tasks=2)
    model, batch = build_model(SMALL, spec), make_batch(spec, 4)
    weights = torch.tensor([2.0, 0.5])
    statistics = LabelStatistics(rows=4, label_sums=torch.ones(4, 2), exposure_sums=torch.full((2,), 4.0))
    parameters = model(batch)
    z, y = parameters[..., 0].detach(), batch.labels
    slow = sum(weights[t] * (math.exp(z[i, t]) - y[i, t] * z[i, t]) for i in range(4) for t in range(2))
    of_tasks = TaskWeights(weights, torch.ones(2))
    fast = JointLoss(model, LossConfig(), weights=of_tasks, statistics=statistics)(parameters, batch)
    torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("uncertain", [False, True])
def test_what_a_task_counts_holds_for_all_of_its_terms(uncertain: bool) -> None:
    _, model, batch = mixed(distribution=True, uncertainty_weights=uncertain)
    config = LossConfig(likelihood=0.5, l1=1.0, l1_log=0.7, distribution=0.3)
    parameters = model(batch)

    def loss(*counts: float) -> JointLoss:
        return JointLoss(model, config, weights=TaskWeights(WEIGHTS, torch.tensor(counts)), statistics=STATISTICS)

    whole = loss(1.0, 3.0, 0.0, 2.0)(parameters, batch)
    parts = [loss(1.0, 1.0, 1.0, 1.0)(parameters[:, [t]], batch, slice(t, t + 1)) for t in range(4)]
    torch.testing.assert_close(whole, parts[0] + 3 * parts[1] + 2 * parts[3])


def test_each_kind_of_task_has_its_likelihood() -> None:
    spec, model, batch = mixed()
    parameters = model(batch)
    terms = loss_of(model).terms(parameters, batch)
    exposures = [1.0, 5.0, 1.0, 1.0]  # of the mean row
    for b in range(6):
        for t, task in enumerate(spec.tasks):
            likelihood = slow_likelihood(task.kind, parameters[b, t, 0].item(), batch.labels[b, t].item())
            expected = WEIGHTS[t].item() * batch.exposure[b, t].item() / exposures[t] * likelihood
            assert terms[b, t].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("likelihood", [poisson, tweedie])
def test_likelihoods_of_amounts_are_least_at_the_label(likelihood: Any) -> None:
    y = torch.tensor([[0.5, 3.0, 40.0]])
    z = y.log().requires_grad_()
    likelihood(z, y).sum().backward()
    torch.testing.assert_close(z.grad, torch.zeros(1, 3), atol=1e-4, rtol=0)


def test_cross_entropy_stays_finite() -> None:
    z = torch.tensor([[-200.0, 200.0]])
    assert cross_entropy(z, torch.tensor([[1.0, 0.0]])).tolist() == [[200.0, 200.0]]
    assert cross_entropy(z, torch.tensor([[0.0, 1.0]])).tolist() == [[0.0, 0.0]]


def test_absolute_errors_count_by_cell_and_not_for_rates_and_outcomes() -> None:
    spec, model, batch = mixed()
    parameters = model(batch)
    terms = loss_of(model, likelihood=0.0, l1=2.0, l1_log=3.0).terms(parameters, batch)
    plain = loss_of(model, likelihood=0.0).terms(parameters, batch)
    for b in range(6):
        for t, task in enumerate(spec.tasks):
            forecast, y = parameters[b, t, 0].exp().item(), batch.labels[b, t].item()
            sums = STATISTICS.label_sums[:, t]
            own = sums[batch.scenario[b]].item()
            weight = 40 / sum(math.sqrt(s) for s in sums.tolist()) / math.sqrt(own) if own else 0.0
            added = 2 * weight * abs(forecast - y) + 3 * abs(math.log1p(forecast) - math.log1p(y))
            expected = plain[b, t].item() + (added if task.kind in ("count", "spend") else 0.0)
            assert terms[b, t].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_forecasting_zero_costs_one_a_row_whatever_the_task_s_size() -> None:
    weights = cell_weights(STATISTICS)
    assert (weights * STATISTICS.label_sums).sum(dim=0).tolist() == pytest.approx([40.0] * 4)


def test_the_distribution_s_loss_is_the_log_mass_of_the_label_s_bin_and_its_mean_s_likelihood() -> None:
    spec, model, batch = mixed(distribution=True)
    parameters = model(batch)
    terms = loss_of(model, distribution=0.5).terms(parameters, batch) - loss_of(model).terms(parameters, batch)
    bins = model.output.bins
    assert bins is not None
    masses = bins.log_masses(*parameters[..., 1:4].unbind(-1))
    outcomes = bins.outcomes(batch.labels)
    for b in range(6):
        for t, task in enumerate(spec.tasks):
            expected = 0.0
            if task.kind in ("count", "spend"):
                weight = WEIGHTS[t].item() * batch.exposure[b, t].item()
                mean = slow_likelihood(task.kind, parameters[b, t, 4].item(), batch.labels[b, t].item())
                expected = 0.5 * (weight * mean - masses[b, t, outcomes[b, t]].item())
            assert terms[b, t].item() == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_loss_of_a_distribution_that_is_not_there_is_refused() -> None:
    _, model, _ = mixed()
    with pytest.raises(UserError, match=r"model\.distribution = true"):
        loss_of(model, distribution=0.5)


def test_learned_weights_of_tasks() -> None:
    """Kendall et al.: e^(-s) L + s per task, here of what a perfect forecast would not have to pay."""
    spec, model, batch = mixed(uncertainty_weights=True)
    assert model.log_variance is not None
    with torch.no_grad():
        model.log_variance.copy_(torch.tensor([0.3, -0.2, 0.0, 1.0]))
    parameters = model(batch)
    loss = loss_of(model)
    terms = loss.terms(parameters, batch)
    expected = 0.0
    for b in range(6):
        for t, task in enumerate(spec.tasks):
            s, y = model.log_variance[t].item(), batch.labels[b, t].item()
            perfect = 0.0 if task.kind == "binary" or y == 0 else slow_likelihood(task.kind, math.log(y), y)
            weight = WEIGHTS[t].item() * batch.exposure[b, t].item() / [1.0, 5.0, 1.0, 1.0][t]
            expected += math.exp(-s) * (terms[b, t].item() - weight * perfect) + s
    value = loss(parameters, batch)
    assert value.item() == pytest.approx(expected, rel=1e-4)
    value.backward()
    assert (model.log_variance.grad != 0).all()


def test_a_model_of_all_kinds_overfits_a_small_batch() -> None:
    _, model, batch = mixed(view_dim=16, distribution=True, uncertainty_weights=True)
    loss = loss_of(model, likelihood=0.5, l1=1.0, l1_log=0.5, distribution=0.3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = None
    for _ in range(400):
        optimizer.zero_grad()
        value: Tensor = loss(model(batch), batch)
        first = value.item() if first is None else first
        value.backward()
        optimizer.step()
    with torch.no_grad():
        forecasts = model.output.forecasts(model(batch))
    errors = (forecasts.centre - batch.labels).abs()
    assert value.item() < first
    assert (forecasts.centre[:, 2].round() == batch.labels[:, 2]).all()
    assert (errors[:, [0, 3]] < 0.3 + 0.05 * batch.labels[:, [0, 3]]).all()
    # What is certain has its quantiles, and its SMAPE action, in the bin of the label.
    bins = model.output.bins
    assert bins is not None
    assert (bins.outcomes(forecasts.smape.float())[:, [0, 3]] == bins.outcomes(batch.labels)[:, [0, 3]]).all()
    assert forecasts.quantiles[:, 1:3].isnan().all()
