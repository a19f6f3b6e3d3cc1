"""The two designs on the synthetic platform: what they measure, and what comparing selected groups measures instead."""

from pathlib import Path

import numpy as np
import pytest

from etl.sources.synthetic.incentive import WEEK, make_platform
from jobs import experiments
from jobs.experiment_market import FITTED, NAIVE, budgets_of, make_market
from m2m_model.contracts.errors import UserError
from training.experiments.designs import Market, holdout, select, selected_groups, whole_arms

MODELS = (NAIVE, FITTED)


@pytest.fixture(scope="module")
def market() -> Market:
    return make_market(1500, seed=3)


def test_the_incentive_adds_days_up_to_a_week_and_takes_none() -> None:
    platform = make_platform(500, seed=1)
    assert (platform.added_active >= 0).all()
    assert (platform.active + platform.added_active <= WEEK).all()
    assert (platform.added_spend[platform.added_active == 0] == 0).all()
    assert platform.added_active.any()


def test_the_same_seed_is_the_same_platform() -> None:
    first, second = make_platform(500, seed=1), make_platform(500, seed=1)
    assert np.array_equal(first.active, second.active)
    assert np.array_equal(first.added_active, second.added_active)


def test_select_takes_the_lowest_within_each_budget() -> None:
    forecast = np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 0.5], [0.0, 9.0]])
    eligible = np.array([[True, True], [True, False], [True, True], [False, True]])
    chosen = select(forecast, eligible, (2, 1))
    assert np.argwhere(chosen).tolist() == [[1, 0], [2, 0], [2, 1]]


def test_a_holdout_covers_only_the_selected_and_deals_them_evenly(market: Market) -> None:
    budgets = budgets_of(market)
    experiment = holdout(market, FITTED, budgets=budgets, salt="s")
    chosen = select(market.forecasts[FITTED], market.eligible, budgets)
    assert sum(experiment.counts.values()) == chosen.any(axis=1).sum()
    assert experiment.ratio_p > 0.5
    assert experiment.readings["active rate"].truth > 0


def test_whole_arms_hold_everybody(market: Market) -> None:
    experiment = whole_arms(market, MODELS, budgets=budgets_of(market), salt="s")
    assert sum(experiment.counts.values()) == len(market.advertisers)


def test_one_model_in_both_arms_makes_no_difference(market: Market) -> None:
    twins = Market(**{**vars(market), "forecasts": {"a": market.forecasts[FITTED], "b": market.forecasts[FITTED]}})
    experiment = whole_arms(twins, ("a", "b"), budgets=budgets_of(market), salt="s")
    assert all(reading.truth == 0 for reading in experiment.readings.values())


def test_selected_groups_differ_although_nothing_was_done() -> None:
    market = make_market(6000, seed=0)
    found, truth = selected_groups(market, MODELS, budgets=budgets_of(market), has_incentive=False)["active rate"]
    assert truth == 0
    assert found.is_significant


def test_intervals_of_both_designs_cover_in_a_few_experiments(market: Market) -> None:
    """``make bench-experiments`` counts a thousand."""
    covered = []
    for number in range(60):
        budgets, salt = budgets_of(market), str(number)
        for experiment in (
            holdout(market, FITTED, budgets=budgets, salt=salt),
            whole_arms(market, MODELS, budgets=budgets, salt=salt),
        ):
            reading = experiment.readings["active rate"]
            covered += [r.low <= reading.truth <= r.high for r in (reading.plain, reading.adjusted)]
    assert np.mean(covered) > 0.88


def test_the_page_is_made_by_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert experiments.main(["--advertisers", "1500", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "README.md").read_text()
    for said in ("*Power*, beforehand", "*Sample ratio*", "with CUPED [95 %]", "truth", "ARPU", "active rate"):
        assert said in page
    assert "</svg>" in (tmp_path / "effects.svg").read_text()
    assert str(tmp_path / "README.md") in capsys.readouterr().out
    with pytest.raises(UserError, match="must be 1000 or more"):
        experiments.main(["--advertisers", "10"])
