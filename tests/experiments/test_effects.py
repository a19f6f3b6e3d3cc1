"""Effects and their intervals: by hand, and in how often they cover a known truth."""

import numpy as np
import pytest
from scipy import stats

from m2m_model.contracts.errors import UserError
from training.experiments.effects import effect
from training.experiments.power import detectable_effect, units_needed

EXPERIMENTS = 1000


def test_without_strata_it_is_welchs_interval() -> None:
    random = np.random.default_rng(0)
    outcome = random.normal(5, 2, 60)
    treated = np.arange(60) < 20
    found = effect(outcome, treated, np.zeros(60))
    welch = stats.ttest_ind(outcome[treated], outcome[~treated], equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(outcome[treated].mean() - outcome[~treated].mean())


def test_strata_by_hand() -> None:
    outcome = np.array([1.0, 3.0, 2.0, 4.0, 10.0, 14.0, 11.0, 17.0, 10.0, 12.0])
    treated = np.array([True, True, False, False, True, True, False, False, False, False])
    found = effect(outcome, treated, np.array(["a"] * 4 + ["b"] * 6))
    assert found.difference == pytest.approx(0.4 * (2 - 3) + 0.6 * (12 - 12.5))


def test_strata_too_small_for_a_variance_are_pooled() -> None:
    outcome = np.arange(9.0)
    treated = np.array([True, False, True, False, True, True, False, False, True])
    strata = np.array(["x", "x", "y", "y", "z", "z", "z", "z", "w"])
    found = effect(outcome, treated, strata)
    pooled = np.array(["p", "p", "p", "p", "z", "z", "z", "z", "p"])
    assert found.difference == pytest.approx(effect(outcome, treated, pooled).difference)
    assert np.isfinite(found.standard_error)


def world(random: np.random.Generator, units: int = 400) -> tuple[np.ndarray, ...]:
    """Skewed outcomes, strata that matter, a forecast made before the experiment, and effects that differ by unit."""
    strata = random.integers(0, 5, units)
    size = random.gamma(1.5, 1.0 + strata)
    forecast = size * random.lognormal(0, 0.3, units)
    effects = 0.3 * size
    plain = random.poisson(3 * size) * (random.random(units) < 0.8)
    return strata, forecast, plain.astype(float), effects


def assigned(random: np.random.Generator, strata: np.ndarray) -> np.ndarray:
    """Half of every stratum."""
    treated = np.zeros(len(strata), bool)
    for stratum in np.unique(strata):
        members = random.permutation(np.flatnonzero(strata == stratum))
        treated[members[: len(members) // 2]] = True
    return treated


@pytest.mark.parametrize("cuped", [False, True])
def test_intervals_cover_the_known_effect(cuped: bool) -> None:
    covered, widths = 0, []
    for seed in range(EXPERIMENTS):
        random = np.random.default_rng(seed)
        strata, forecast, plain, effects = world(random)
        treated = assigned(random, strata)
        found = effect(plain + treated * effects, treated, strata, covariates=forecast[:, None] if cuped else None)
        # The truth is of this population of units: their effects are what it is.
        covered += found.low <= effects.mean() <= found.high
        widths.append(found.high - found.low)
    assert 0.935 <= covered / EXPERIMENTS <= 0.965


def test_cuped_narrows_the_interval_and_does_not_move_it() -> None:
    random = np.random.default_rng(1)
    strata, forecast, plain, effects = world(random, units=4000)
    treated = assigned(random, strata)
    outcome = plain + treated * effects
    without, having = (effect(outcome, treated, strata, covariates=c) for c in (None, forecast[:, None]))
    assert having.variance_reduction > 0.3
    assert having.high - having.low < 0.85 * (without.high - without.low)
    assert abs(having.difference - without.difference) < 3 * without.standard_error


def test_an_arm_without_units_is_refused() -> None:
    with pytest.raises(UserError, match="each arm needs 2 units"):
        effect(np.arange(4.0), np.array([True, False, False, False]), np.zeros(4))


def test_power_is_what_simulation_finds() -> None:
    random, units = np.random.default_rng(2), 200
    difference = detectable_effect(deviation=2.0, units=units)
    treated = np.arange(units) < units // 2
    found = [
        effect(random.normal(0, 2, units) + difference * treated, treated, np.zeros(units)).is_significant
        for _ in range(600)
    ]
    assert 0.75 < np.mean(found) < 0.85
    assert units_needed(deviation=2.0, difference=difference) == pytest.approx(units, abs=1)
    with pytest.raises(UserError, match="power must lie between"):
        detectable_effect(deviation=1.0, units=10, power=1.0)
