"""Baselines: naive forecasts by hand, and LightGBM that learns."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from tests.training.tiny import SPEC, random_table
from training.baselines.lightgbm import categorical_inputs, fit_lightgbm, input_matrix
from training.baselines.naive import NaiveForecaster, last_7_days, mean_28_days, median_5_weeks
from training.baselines.registry import BASELINES
from training.dataset import batch_columns

BOUNDED = SPEC.model_copy(
    update={"horizon": 14, "tasks": (SPEC.tasks[0], SPEC.tasks[1].model_copy(update={"daily_max": 1}))}
)


def batch_of(rows: int, *, seed: int = 0) -> Batch:
    return Batch.from_columns(batch_columns(random_table(rows, seed=seed, labels=True), SPEC), SPEC)


def batch_with_history(history: list[list[float]]) -> Batch:
    batch = batch_of(1)
    return Batch(**{**vars(batch), "history": torch.tensor([history])})


@pytest.mark.parametrize(
    ("rule", "units", "days"),
    [(last_7_days, 6.0, 10.0), (mean_28_days, 2 * 11 / 4, 9.0), (median_5_weeks, 4.0, 8.0)],
)
def test_naive_forecasts_by_hand(rule, units, days) -> None:  # type: ignore[no-untyped-def]
    # A horizon of 14 days is twice a week; the last value is the T-day sum, which no naive rule uses.
    batch = batch_with_history([[3, 0, 8, 0, 2, 99], [5, 5, 4, 4, 0, 99]])
    forecast = NaiveForecaster(rule=rule, spec=BOUNDED)(batch)
    assert forecast.shape == (1, 2)
    assert forecast[0, 1] == pytest.approx(days)
    assert forecast[0, 0] == pytest.approx(units)


def test_a_naive_forecast_stays_within_what_the_horizon_holds() -> None:
    batch = batch_with_history([[50, 0, 0, 0, 0, 50], [9, 9, 9, 9, 9, 40]])
    forecast = NaiveForecaster(rule=last_7_days, spec=BOUNDED)(batch)
    assert forecast.tolist() == [[100.0, 14.0]]


def test_a_history_too_short_for_a_rule_is_named() -> None:
    short = SPEC.model_copy(update={"history_weeks": 3})
    with pytest.raises(UserError, match="history_weeks >= 4, however: 3"):
        NaiveForecaster(rule=mean_28_days, spec=short)(batch_of(2))


def test_inputs_hold_scenario_attributes_sequence_summaries_and_dense_values() -> None:
    batch = batch_of(3)
    inputs = input_matrix(batch)
    sequence_columns = len(SPEC.behavior) + len(SPEC.performance)
    # T = 4 days is less than a week: there is no week before.
    assert inputs.shape == (3, 1 + 1 + 1 + 3 * sequence_columns + SPEC.dense_size)
    assert categorical_inputs(SPEC) == [0, 1]
    levels = np.maximum(batch.behavior.numpy()[:, :, 0] - 1, 0)
    np.testing.assert_allclose(inputs[:, 3], levels[:, -1])
    np.testing.assert_allclose(inputs[:, 4], levels.mean(axis=1))


def learnable(rows: int, *, seed: int) -> Iterator[Batch]:
    """Labels follow the scenario and the behavior of the last day, which neither the mean nor the offset knows."""
    batch = batch_of(rows, seed=seed)
    rate = 1.0 + 6.0 * (batch.scenario == 2) + 3.0 * (batch.behavior[:, -1, 0] == 3)
    labels = torch.poisson(rate, generator=torch.Generator().manual_seed(seed))
    yield Batch(**{**vars(batch), "labels": torch.stack([labels, torch.zeros_like(labels)], dim=1)})


def test_lightgbm_beats_the_mean_and_leaves_an_all_zero_task_at_zero() -> None:
    train, test = next(learnable(3000, seed=1)), next(learnable(1000, seed=3))
    fitted = fit_lightgbm(SPEC, [train], learnable(1000, seed=2), rounds=60, max_rows=3000, seed=0)
    forecast, truth = fitted(test), test.labels.numpy()
    errors = np.abs(forecast[:, 0] - truth[:, 0]).mean()
    assert errors < 0.85 * np.abs(train.labels[:, 0].numpy().mean() - truth[:, 0]).mean()
    assert not forecast[:, 1].any()
    assert forecast[:, 0].mean() == pytest.approx(truth[:, 0].mean(), rel=0.1)
    alone = fitted(test.select(slice(0, 1)))
    np.testing.assert_allclose(alone, forecast[:1])


def test_no_more_rows_are_read_than_asked_for() -> None:
    def endless() -> Iterator[Batch]:
        while True:
            yield batch_of(40)

    fit_lightgbm(SPEC, endless(), endless(), rounds=1, max_rows=100, seed=0)


def test_an_empty_split_is_named() -> None:
    with pytest.raises(UserError, match="the validation split has none"):
        fit_lightgbm(SPEC, [batch_of(10)], [], rounds=1, max_rows=10, seed=0)


def test_the_registry_names_the_comparison() -> None:
    assert list(BASELINES) == ["last_7_days", "mean_28_days", "median_5_weeks", "lightgbm_poisson"]
