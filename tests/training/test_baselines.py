"""Baselines: naive forecasts by hand, and LightGBM that learns."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec, ExposureSpec
from m2m_model.contracts.store import Manifest
from tests.training.tiny import SPEC, random_table
from training.baselines.lightgbm import (
    OBJECTIVES,
    LightGbmForecaster,
    categorical_inputs,
    fit_lightgbm,
    input_matrix,
    refit_lightgbm,
)
from training.baselines.naive import NaiveForecaster, last_7_days, mean_28_days, median_5_weeks
from training.baselines.registry import BASELINES, fit_baselines
from training.baselines.smoothing import SmoothingForecaster, dense_position, smooth_days, smooth_weeks
from training.config import BaselinesConfig, TrainingConfig
from training.dataset import batch_columns
from training.scoring import Source

BOUNDED = SPEC.model_copy(
    update={"horizon": 14, "tasks": (SPEC.tasks[0], SPEC.tasks[1].model_copy(update={"daily_max": 1}))}
)


MIXED = SPEC.model_copy(
    update={
        "tasks": (
            SPEC.tasks[0].model_copy(
                update={"kind": "rate", "exposure": ExposureSpec(expr="y", scale=0), "mean_label": 0.4}
            ),
            SPEC.tasks[1].model_copy(update={"kind": "binary", "outcome": "any", "mean_label": 0.4}),
        )
    }
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
    forecast = NaiveForecaster(rule=rule, spec=BOUNDED)(batch).mean
    assert forecast.shape == (1, 2)
    assert forecast[0, 1] == pytest.approx(days)
    assert forecast[0, 0] == pytest.approx(units)


def test_a_naive_forecast_stays_within_what_the_horizon_holds() -> None:
    batch = batch_with_history([[50, 0, 0, 0, 0, 50], [9, 9, 9, 9, 9, 40]])
    forecast = NaiveForecaster(rule=last_7_days, spec=BOUNDED)(batch).mean
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
    assert inputs.shape == (3, 1 + 1 + 1 + 3 * sequence_columns + SPEC.dense_size + 3 * 2)
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


def fit(
    name: str, spec: DatasetSpec, train: Iterable[Batch], validation: Iterable[Batch], **fields: int
) -> LightGbmForecaster:
    config = BaselinesConfig(**{"lightgbm_rounds": 60, "lightgbm_max_rows": 3000} | fields)
    return fit_lightgbm(name, spec, train, validation, config=config, seed=0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_lightgbm_beats_the_mean_and_leaves_an_all_zero_task_at_zero(name: str) -> None:
    train, test = next(learnable(3000, seed=1)), next(learnable(1000, seed=3))
    fitted = fit(name, SPEC, [train], learnable(1000, seed=2))
    forecast, truth = fitted(test).mean, test.labels.numpy()
    errors = np.abs(forecast[:, 0] - truth[:, 0]).mean()
    assert errors < 0.85 * np.abs(train.labels[:, 0].numpy().mean() - truth[:, 0]).mean()
    assert not forecast[:, 1].any()
    assert (forecast >= 0).all()
    if name in ("lightgbm_poisson", "lightgbm_tweedie"):  # fit means
        assert forecast[:, 0].mean() == pytest.approx(truth[:, 0].mean(), rel=0.1)
    alone = fitted(test.select(slice(0, 1))).mean
    np.testing.assert_allclose(alone, forecast[:1])


def mixed_batch(rows: int, *, seed: int) -> Batch:
    """The first task's rate and the second one's probability follow the scenario; histories say nothing."""
    batch = batch_of(rows, seed=seed)
    random = np.random.default_rng(seed)
    p = np.where(batch.scenario.numpy() == 2, 0.8, 0.1)
    exposure = random.integers(0, 20, rows)
    outcome, rate = random.random(rows) < p, random.binomial(exposure, p) / np.maximum(exposure, 1)
    as_floats = {"labels": np.stack([rate, outcome], 1), "exposure": np.stack([exposure, np.ones(rows)], 1)}
    history = torch.zeros_like(batch.history)
    return Batch(**{**vars(batch), "history": history} | {n: torch.from_numpy(a).float() for n, a in as_floats.items()})


@pytest.mark.parametrize("name", ["lightgbm_poisson", "lightgbm_l1_log"])
def test_lightgbm_fits_rates_by_their_exposure_and_binary_tasks_as_such(name: str) -> None:
    train, test = mixed_batch(2000, seed=1), mixed_batch(500, seed=2)
    forecast = fit(name, MIXED, [train], [mixed_batch(800, seed=3)], lightgbm_rounds=40)(test).mean
    p = np.where(test.scenario.numpy() == 2, 0.8, 0.1)
    assert np.abs(forecast - p[:, None]).mean(axis=0).max() < 0.15
    assert (forecast[:, 1] <= 1).all()


def test_smoothing_follows_a_weekly_season_day_by_day() -> None:
    week = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    daily = np.tile(week, 6)[None]
    assert smooth_days(daily, ahead=0, horizon=7).tolist() == pytest.approx([21.0])
    assert smooth_days(daily, ahead=2, horizon=3).tolist() == pytest.approx([2.0 + 3.0 + 4.0])
    assert smooth_days(np.zeros((1, 42)), ahead=0, horizon=7).tolist() == [0.0]


def test_smoothing_of_weeks_stays_within_them() -> None:
    weekly = np.array([[4.0, 4.0, 4.0, 4.0, 4.0], [1.0, 2.0, 3.0, 4.0, 9.0], [0.0] * 5])
    levels = smooth_weeks(weekly)
    assert levels[[0, 2]].tolist() == pytest.approx([4.0, 0.0])
    assert 1.0 <= levels[1] <= 9.0


def test_smoothing_uses_a_task_s_own_days_where_the_row_has_them() -> None:
    days = SPEC.performance[0].model_copy(update={"name": "units", "expr": "x", "dense": True})
    other = days.model_copy(update={"name": "all", "scope": "advertiser"})
    spec = SPEC.model_copy(update={"sequence_length": 21, "performance": (other, days)})
    assert dense_position(spec.tasks[0], spec) == 21
    assert dense_position(spec.tasks[0], SPEC) is None
    rows = 2
    week = torch.tensor([0.0, 0.0, 5.0, 0.0, 1.0, 0.0, 0.0])
    dense = torch.cat([torch.ones(21), week.repeat(3), torch.zeros(12)]).log1p().expand(rows, -1)
    batch = Batch(**{**vars(batch_of(rows)), "dense": dense})
    forecast = SmoothingForecaster(spec=spec)(batch).mean
    assert forecast[:, 0].tolist() == pytest.approx([6.0, 6.0], rel=1e-3)
    by_weeks = SmoothingForecaster(spec=SPEC)(batch).mean
    assert by_weeks[:, 0].tolist() == smooth_weeks(batch.history.double().numpy()[:, 0, -2::-1]).tolist()


def test_rates_and_outcomes_are_not_scaled_to_the_horizon() -> None:
    spec = MIXED.model_copy(update={"horizon": 14})
    batch = batch_with_history([[0.5, 0.1, 0, 0, 0, 0.3], [1, 1, 0, 0, 0, 1]])
    assert NaiveForecaster(rule=last_7_days, spec=spec)(batch).mean.tolist() == [[0.5, 1.0]]
    assert NaiveForecaster(rule=mean_28_days, spec=spec)(batch).mean[0].tolist() == pytest.approx([0.15, 0.5])


def test_money_after_none_does_not_explode() -> None:
    """The offset of a row without history is 0.1, its label may be a million: a plain Newton step would be 1e7 wide."""

    def batches(seed: int) -> Iterator[Batch]:
        batch = batch_of(2000, seed=seed)
        labels = torch.where(torch.rand(2000, generator=torch.Generator().manual_seed(seed)) < 0.1, 1e6, 0.0)
        yield Batch(
            **{
                **vars(batch),
                "history": torch.zeros_like(batch.history),
                "labels": torch.stack([labels, torch.zeros_like(labels)], dim=1),
            }
        )

    spec = SPEC.model_copy(
        update={"tasks": (SPEC.tasks[0].model_copy(update={"max_label": 1e6, "mean_label": 1e5}), SPEC.tasks[1])}
    )
    for name in ("lightgbm_poisson", "lightgbm_tweedie"):
        mean = fit(name, spec, batches(1), batches(2), lightgbm_rounds=400)(next(batches(3))).mean[:, 0]
        assert 2e4 < mean.mean() < 5e5, name


def test_only_eligible_rows_judge_when_to_stop() -> None:
    (train,), (judge,) = learnable(2000, seed=1), learnable(1000, seed=2)
    chosen = torch.arange(1000) % 2 == 0
    judge = replace(judge, eligible=chosen)
    misled = replace(judge, labels=torch.where(chosen.unsqueeze(1), judge.labels, 1e4))
    few = judge.select(chosen)
    test = batch_of(500, seed=3)
    forecasts = [fit("lightgbm_l1", SPEC, [train], [rows])(test).mean for rows in (few, misled)]
    np.testing.assert_array_equal(*forecasts)


def test_a_refit_has_the_rounds_of_the_first_fit_and_the_rows_of_both_splits() -> None:
    (train,), (judge,) = learnable(2000, seed=1), learnable(1000, seed=2)
    chosen = torch.arange(1000) % 2 == 0
    judge = replace(judge, eligible=chosen)
    misled = replace(judge, labels=torch.where(chosen.unsqueeze(1), judge.labels, 1e4))
    train = replace(train, eligible=torch.ones(2000, dtype=torch.bool))
    first, test = fit("lightgbm_l1", SPEC, [train], [judge]), batch_of(500, seed=3)
    config = BaselinesConfig(lightgbm_max_rows=3000)
    final, again = (refit_lightgbm(first, [rows, train], config=config, seed=0) for rows in (judge, misled))
    assert [one and one.num_trees() for one in final.boosters] == [one and one.best_iteration for one in first.boosters]
    np.testing.assert_array_equal(final(test).mean, again(test).mean)
    assert not np.array_equal(final(test).mean, first(test).mean)


def test_no_more_rows_are_read_than_asked_for() -> None:
    def endless() -> Iterator[Batch]:
        while True:
            yield batch_of(40)

    fit("lightgbm_poisson", SPEC, endless(), endless(), lightgbm_rounds=1, lightgbm_max_rows=100)


def test_an_empty_split_is_named() -> None:
    with pytest.raises(UserError, match="the validation split has none"):
        fit("lightgbm_poisson", SPEC, [batch_of(10)], [], lightgbm_rounds=1, lightgbm_max_rows=10)


def test_baselines_are_fitted_in_the_order_of_their_names(tmp_path: Path) -> None:
    source = Source(location=str(tmp_path), spec=SPEC, batch_size=8)
    manifest = Manifest(kind="dataset", generation="g", created_at="", files=())
    names = ("exponential_smoothing", "last_7_days")
    config = TrainingConfig(baselines=BaselinesConfig(names=names))
    assert tuple(fit_baselines(source, manifest, config)) == names
    with pytest.raises(UserError, match=r"among \['last_7_days', .*'lightgbm_l1_log'\], however: 'prophet'"):
        fit_baselines(source, manifest, TrainingConfig(baselines=BaselinesConfig(names=("prophet",))))
    assert set(OBJECTIVES) < set(BASELINES)
