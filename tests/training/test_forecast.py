"""The point-forecast rule against a search by brute force."""

import numpy as np
import pytest

from m2m_model.contracts.errors import UserError
from training.forecast import SCALES, PointRule, TaskRule, fit_point_rule


def macro_nmae(points: np.ndarray, labels: np.ndarray, scenarios: np.ndarray) -> float:
    cells = [scenarios == scenario for scenario in np.unique(scenarios)]
    return float(np.mean([np.abs(points[c] - labels[c]).sum() / labels[c].sum() for c in cells if labels[c].sum() > 0]))


@pytest.mark.parametrize("seed", range(5))
def test_fit_finds_the_best_rule_there_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = int(random.integers(5, 40))
    means = random.gamma(0.5, 3.0, (rows, 1)).round(1)
    labels = random.poisson(means).astype(float)
    labels[0] = 1.0
    scenarios = random.choice(["a", "b", "c"], rows)
    rule = fit_point_rule(means, labels, scenarios, np.ones(rows, bool), ["units"])
    candidates = [0.0, *np.unique(means) + 0.05]
    best = min(
        macro_nmae(np.where(means < threshold, 0.0, means * scale), labels, scenarios)
        for threshold in candidates
        for scale in SCALES
    )
    assert macro_nmae(rule.apply(means), labels, scenarios) == pytest.approx(best)


def test_perfect_means_are_left_alone() -> None:
    labels = np.array([[0.0, 5.0], [3.0, 0.0], [7.0, 2.0]])
    rule = fit_point_rule(labels, labels, np.array(["a", "a", "b"]), np.ones(3, bool), ["x", "y"])
    assert rule.apply(labels).tolist() == labels.tolist()


def test_small_means_of_true_zeros_become_zero() -> None:
    means = np.array([[0.2], [0.3], [9.0]])
    rule = fit_point_rule(means, np.array([[0.0], [0.0], [9.0]]), np.array(["a"] * 3), np.ones(3, bool), ["units"])
    assert rule == PointRule(tasks={"units": TaskRule(threshold=(0.3 + 9.0) / 2, scale=1.0)})


def test_only_eligible_rows_have_a_say() -> None:
    means, labels = np.array([[1.0], [2.0]]), np.array([[0.0], [2.0]])
    rule = fit_point_rule(means, labels, np.array(["a", "a"]), np.array([False, True]), ["units"])
    assert rule.apply(means).tolist() == [[1.0], [2.0]]
    with pytest.raises(UserError, match="eligible"):
        fit_point_rule(means, labels, np.array(["a", "a"]), np.array([False, False]), ["units"])


def test_rule_survives_json() -> None:
    rule = PointRule(tasks={"units": TaskRule(threshold=0.125, scale=0.9)})
    assert PointRule.model_validate_json(rule.model_dump_json()) == rule
