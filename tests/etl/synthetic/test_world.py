import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.sources.synthetic.parameters import Parameters
from etl.sources.synthetic.world import (
    NEVER,
    PAUSED,
    RUNNING,
    ball_law,
    ball_matrix,
    ball_value,
    impressions,
    impressions_probability,
    next_ball,
)
from tests.etl.synthetic.twin import small_world

FROZEN = "9089abd6d5be6a93"
DOCS = Path(__file__).parents[3] / "docs" / "synthetic_world.md"


def test_the_worlds_parameters_are_frozen() -> None:
    assert Parameters().digest == FROZEN, "results on two worlds do not compare: see docs/synthetic_world.md"
    assert re.findall(r"digest is `(\w+)`", DOCS.read_text()) == [FROZEN]


def test_any_changed_parameter_changes_the_digest() -> None:
    assert Parameters(mechanism=2).digest != Parameters().digest
    assert Parameters(scenarios=Parameters().scenarios[::-1]).digest != Parameters().digest


@given(balls=st.integers(1, 20), move=st.floats(0.01, 1.0))
def test_an_urn_is_stationary_under_its_law(balls: int, move: float) -> None:
    law, matrix = ball_law(balls), ball_matrix(balls, move)
    np.testing.assert_allclose(law @ matrix, law, atol=1e-12)
    value = ball_value(np.arange(balls + 1), balls)
    assert (law * value).sum() == pytest.approx(0, abs=1e-9)
    assert (law * value**2).sum() == pytest.approx(1)
    np.testing.assert_allclose(matrix @ value, (1 - 2 * move / balls) * value, atol=1e-9)


def test_urn_steps_have_the_matrix() -> None:
    rng = np.random.default_rng(0)
    matrix = ball_matrix(4, 0.3)
    for state in range(5):
        moved = next_ball(np.full(40_000, state), 4, 0.3, rng.random(40_000))
        np.testing.assert_allclose(np.bincount(moved, minlength=5) / 40_000, matrix[state], atol=0.01)


@given(median=st.floats(0.05, 60.0), cap=st.integers(1, 90))
def test_chances_of_impressions_add_up_to_one(median: float, cap: int) -> None:
    p = Parameters()
    seen = np.arange(cap + 1)
    chance = impressions_probability(p, np.array(math.log(median)), np.array(cap), seen)
    assert chance.sum() == pytest.approx(1)
    below = 1 / (1 + median**p.demand_shape)
    assert chance[0] == pytest.approx(p.idle + (1 - p.idle) * below)


def test_impressions_have_their_chances() -> None:
    p, rng, draws = Parameters(), np.random.default_rng(1), 200_000
    log_median, cap = np.full(draws, math.log(3.0)), np.full(draws, 6)
    seen = impressions(p, log_median, cap, rng.random(draws), rng.random(draws))
    expected = impressions_probability(p, log_median[:7], cap[:7], np.arange(7))
    np.testing.assert_allclose(np.bincount(seen, minlength=7) / draws, expected, atol=0.005)


def test_huge_impressions_keep_a_chance() -> None:
    for seen in (10**6, 10**9):
        chance = impressions_probability(Parameters(), np.array(math.log(10**6)), np.array(10**12), np.array(seen))
        assert 0 < chance < 1e-5


def test_status_moves() -> None:
    world = small_world()
    status = np.array([NEVER, NEVER, RUNNING, RUNNING, PAUSED, PAUSED])
    engagement = np.zeros(6, np.int8)
    adopt, p = np.full(6, 0.5), world.parameters
    chance = np.array([0.49, 0.51, p.pause[0] - 0.001, p.pause[0] + 0.001, p.resume[0] - 0.001, p.resume[0] + 0.001])
    moved = world.next_status(status, engagement, adopt, chance)
    assert moved.tolist() == [RUNNING, NEVER, PAUSED, RUNNING, RUNNING, PAUSED]
