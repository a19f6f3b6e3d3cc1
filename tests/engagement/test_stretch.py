"""Personal targets: a slow twin, and what must hold of every one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from m2m_model.contracts.errors import UserError
from training.engagement.stretch import reach_probability, stretch_targets

LEVELS = [0.1, 0.25, 0.5, 0.75, 0.9]


def slow_reach(quantiles: list[float], target: float, *, whole: bool) -> float:
    at = target - (0.5 if whole else 0.0)
    if at < quantiles[0]:
        return 1 - LEVELS[0]
    if at >= quantiles[-1]:
        return 1 - LEVELS[-1]
    last = max(i for i in range(len(LEVELS)) if quantiles[i] <= at)
    share = (at - quantiles[last]) / (quantiles[last + 1] - quantiles[last])
    return 1 - (LEVELS[last] + share * (LEVELS[last + 1] - LEVELS[last]))


rows = st.lists(st.floats(0, 50), min_size=5, max_size=5).map(sorted)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=8), st.floats(0, 60), st.booleans())
def test_reach_probability_against_a_loop(quantiles: list[list[float]], target: float, whole: bool) -> None:
    found = reach_probability(np.array(quantiles), LEVELS, np.full(len(quantiles), target), whole=whole)
    expected = [slow_reach(row, target, whole=whole) for row in quantiles]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@settings(deadline=None)
@given(st.lists(rows, min_size=1, max_size=8), st.sampled_from([0.2, 0.3, 0.5, 0.8]), st.sampled_from([0.5, 1.0, 5.0]))
def test_a_target_is_the_least_that_is_rare_enough(
    quantiles: list[list[float]], probability: float, step: float
) -> None:
    given_rows = np.array(quantiles)
    targets, chances = stretch_targets(
        given_rows, LEVELS, probability=probability, step=step, highest=np.inf, whole=step >= 1
    )
    assert (chances <= probability + 1e-9).all()
    np.testing.assert_allclose(targets / step, np.round(targets / step))
    easier = np.maximum(targets - step, 0)
    reached = reach_probability(given_rows, LEVELS, easier, whole=step >= 1)
    assert ((reached > probability - 1e-9) | (targets <= step)).all()


def test_a_target_stays_within_what_the_horizon_holds() -> None:
    always = np.full((1, 5), 7.0)
    targets, chances = stretch_targets(always, LEVELS, probability=0.3, step=1.0, highest=7.0, whole=True)
    assert targets.tolist() == [7.0]
    assert chances.tolist() == [0.9]


def test_a_chance_that_the_quantiles_do_not_tell_is_refused() -> None:
    with pytest.raises(UserError, match=r"within 0.10 .. 0.90"):
        stretch_targets(np.zeros((1, 5)), LEVELS, probability=0.05, step=1.0, highest=7.0, whole=True)
