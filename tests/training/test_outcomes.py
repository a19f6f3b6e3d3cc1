"""AUC, log loss and coverage against the definitions, and merging."""

import math

import numpy as np
import pytest

from training.outcomes import CoverageSums, OutcomeSums, area_under_curve, lines_csv

EVERYTHING = ("eligible", "a")


def everything(rows: int) -> list[tuple[tuple[str, str], np.ndarray]]:
    return [(EVERYTHING, np.ones(rows, bool))]


def random_outcomes(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probabilities = random.random((rows, 2))
    return probabilities, (random.random((rows, 2)) < probabilities).astype(float)


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    probabilities, labels = random_outcomes(200, seed=0)
    sums = OutcomeSums(tasks=("churn", "visit"))
    sums.add(everything(200), probabilities, labels)
    for index, row in enumerate(sums.rows(model="m")):
        p, y = probabilities[:, index], labels[:, index]
        pairs = [float(a > b) + 0.5 * float(a == b) for a in p[y == 1] for b in p[y == 0]]
        assert row["auc"] == pytest.approx(np.mean(pairs), abs=2e-3)
        assert row["log_loss"] == pytest.approx(-np.mean(np.log(np.where(y == 1, p, 1 - p))))
        assert (row["positives"], row["n"]) == (y.sum(), 200)


def test_auc_of_ties_and_of_one_outcome_alone() -> None:
    assert area_under_curve(np.array([2.0, 0.0]), np.array([3.0, 0.0])) == 0.5
    assert area_under_curve(np.array([2.0, 0.0]), np.array([0.0, 3.0])) == 1.0
    assert math.isnan(area_under_curve(np.array([2.0, 1.0]), np.zeros(2)))


def test_certain_and_wrong_costs_much_but_not_infinitely() -> None:
    sums = OutcomeSums(tasks=("churn",))
    sums.add(everything(2), np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]]))
    (row,) = sums.rows(model="m")
    assert row["auc"] == 0.0
    assert 20 < row["log_loss"] < 40


def test_workers_merge_to_what_one_would_have() -> None:
    probabilities, labels = random_outcomes(50, seed=1)
    whole, first, second = (OutcomeSums(tasks=("churn", "visit")) for _ in range(3))
    whole.add(everything(50), probabilities, labels)
    first.add(everything(20), probabilities[:20], labels[:20])
    second.add(everything(30), probabilities[20:], labels[20:])
    before = first.rows(model="m")
    for merged, one in zip(first.merge(second).rows(model="m"), whole.rows(model="m"), strict=True):
        assert merged == pytest.approx(one)
    assert first.rows(model="m") == before


def test_coverage_is_the_share_of_labels_at_or_below_a_quantile() -> None:
    whole, part = (CoverageSums(tasks=("units",), quantiles={"p50": 0.5, "p90": 0.9}) for _ in range(2))
    quantiles = np.array([[[1.0, 4.0]], [[2.0, 2.0]], [[0.0, 5.0]]])
    labels = np.array([[1.0], [3.0], [2.0]])
    whole.add(everything(3), quantiles, labels)
    part.add(everything(1), quantiles[:1], labels[:1])
    shares = [(row["level"], row["share"], row["n"]) for row in whole.rows(model="m")]
    assert shares == [(0.5, pytest.approx(1 / 3), 3), (0.9, pytest.approx(2 / 3), 3)]
    assert [row["share"] for row in whole.merge(part).rows(model="m")] == [0.5, 0.75]


def test_csv_of_lines() -> None:
    assert lines_csv([]) == ""
    assert lines_csv([{"model": "m", "auc": 0.5}]) == "model,auc\nm,0.5\n"
