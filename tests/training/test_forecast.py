"""The forecast rules against a search by brute force."""

from typing import Any

import numpy as np
import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from tests.training.tiny import SPEC
from training.forecast import DECISION, SCALES, ForecastRules, Forecasts, PointRule, TaskRule, fit_rules
from training.groups import GROUPS
from training.metrics import smape_terms


def one_task(**fields: object) -> DatasetSpec:
    return SPEC.model_copy(update={"tasks": (SPEC.tasks[0].model_copy(update=fields),)})


def fitted(values: np.ndarray, labels: np.ndarray, scenarios: list[str] | np.ndarray, **given: object) -> ForecastRules:
    spec = given.pop("spec", one_task())
    rows = len(values)
    arguments = {"eligible": np.ones(rows, bool), "exposures": np.ones(labels.shape), "groups": np.arange(rows)} | given
    return fit_rules(Forecasts.single(values), labels, scenarios=np.array(scenarios), spec=spec, **arguments)  # type: ignore[arg-type]


def shares(terms: np.ndarray, scenarios: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Each row's part of a macro average over scenarios: terms over the scenario's total."""
    cells = [scenarios == scenario for scenario in np.unique(scenarios)]
    cells = [cell for cell in cells if totals[cell].sum() > 0]
    return np.sum([cell[:, None] * terms / totals[cell].sum() for cell in cells], axis=0) / len(cells)


@pytest.mark.parametrize("kind", ["count", "rate"])
@pytest.mark.parametrize("seed", range(5))
def test_a_scale_is_the_nearest_to_1_within_a_standard_error_of_the_best_rule(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    rows = int(random.integers(30, 90))
    values = random.gamma(0.5, 3.0, (rows, 1)).round(1)
    labels = random.poisson(values * (0.6 if seed % 2 else 1.0)).astype(float)
    exposures = random.integers(0, 4, (rows, 1)).astype(float) if kind == "rate" else np.ones((rows, 1))
    labels[0] = exposures[0] = 1.0
    scenarios, groups = random.choice(["a", "b", "c"], rows), random.integers(0, GROUPS, rows)
    rules = fitted(values, labels, scenarios, groups=groups, exposures=exposures, spec=one_task(kind=kind))
    thresholds = [0.0, *np.unique(values) + 0.05]

    def nmae(points: np.ndarray) -> np.ndarray:
        return shares(exposures * np.abs(points - labels), scenarios, exposures * labels)

    def smape(points: np.ndarray) -> np.ndarray:
        exposed = (exposures > 0).astype(float)
        return shares(exposed * smape_terms(points, labels), scenarios, exposed)

    def points(threshold: float, scale: float) -> np.ndarray:
        return np.where(values < threshold, 0.0, values * scale)

    for rule, metric in ((rules.point, nmae), (rules.smape, smape)):
        by_scale = {
            scale: min((points(threshold, scale) for threshold in thresholds), key=lambda p: metric(p).sum())
            for scale in sorted(SCALES, key=lambda scale: abs(scale - 1))
        }
        best = metric(min(by_scale.values(), key=lambda p: metric(p).sum()))

        def good(forecast: np.ndarray, best: np.ndarray = best, metric: Any = metric) -> bool:
            excess = (metric(forecast) - best)[:, 0]
            by_group = [excess[groups == group].sum() for group in range(GROUPS)]
            return bool(np.sum(excess) <= np.std(by_group, ddof=1) * GROUPS**0.5 + 1e-12)

        simplest = list(by_scale.values())
        expected = next(forecast for forecast in simplest if good(forecast))
        assert metric(rule.apply(values)).sum() == pytest.approx(metric(expected).sum())


def test_a_forecast_that_is_no_number_is_named() -> None:
    values = np.array([[1.0], [np.nan]])
    with pytest.raises(UserError, match="some of units are not"):
        fitted(values, np.ones((2, 1)), ["a", "a"])


def test_one_advertiser_shows_nothing() -> None:
    random = np.random.default_rng(0)
    values = random.gamma(0.5, 3.0, (50, 1))
    rules = fitted(values, 2 * values, ["a"] * 50, groups=np.zeros(50, int))
    assert rules.point.tasks["units"] == TaskRule(threshold=0.0, scale=1.0)


def test_perfect_forecasts_are_left_alone() -> None:
    labels = np.array([[0.0, 5.0], [3.0, 0.0], [7.0, 2.0]])
    rules = fitted(labels, labels, ["a", "a", "b"], spec=SPEC)
    assert rules.point.apply(labels).tolist() == rules.smape.apply(labels).tolist() == labels.tolist()


def test_small_forecasts_of_true_zeros_become_zero() -> None:
    values = np.array([[0.2], [0.3], [9.0]])
    rules = fitted(values, np.array([[0.0], [0.0], [9.0]]), ["a"] * 3)
    assert rules.point == PointRule(tasks={"units": TaskRule(threshold=(0.3 + 9.0) / 2, scale=1.0)})
    assert rules.smape == rules.point


def test_no_scaled_forecast_exceeds_the_largest_label() -> None:
    random = np.random.default_rng(1)
    values = random.uniform(0.0, 7.0, (400, 1))
    labels = np.minimum(1.3 * values, 7.0).round()
    labels[:40], values[:40] = 7.0, 6.0
    rules = fitted(values, labels, ["a"] * 400, spec=one_task(daily_max=1))
    free = fitted(values, labels, ["a"] * 400)
    for rule, uncapped in ((rules.point, free.point), (rules.smape, free.smape)):
        assert rule.tasks["units"].cap == 7.0
        assert rule.tasks["units"].scale == uncapped.tasks["units"].scale > 1
        assert uncapped.apply(values).max() > 7.0
        assert rule.apply(values).tolist() == np.minimum(uncapped.apply(values), 7.0).tolist()


def test_each_aim_has_its_own_forecast() -> None:
    rules = ForecastRules(
        point=PointRule(tasks={"units": TaskRule(threshold=0.0, scale=2.0)}),
        smape=PointRule(tasks={"units": TaskRule(threshold=4.0, scale=1.0)}),
    )
    mean, centre, smape = (np.full((1, 1), value) for value in (1.0, 2.0, 3.0))
    forecasts = Forecasts(mean=mean, centre=centre, smape=smape, quantiles=np.zeros((1, 1, 0)))
    assert {kind: values.item() for kind, values in rules.apply(forecasts).items()} == {
        "mean": 1.0,
        "point": 4.0,
        "smape": 0.0,
    }


def test_a_binary_task_is_decided_at_one_half() -> None:
    probabilities = np.array([[0.2], [0.5], [0.9]])
    rules = fitted(probabilities, np.array([[1.0], [0.0], [0.0]]), ["a"] * 3, spec=one_task(kind="binary"))
    assert rules.point.tasks == {"units": DECISION}
    assert rules.point.apply(probabilities).tolist() == [[0.0], [1.0], [1.0]]


def test_only_eligible_rows_have_a_say() -> None:
    values, labels = np.array([[1.0], [2.0]]), np.array([[0.0], [2.0]])
    rules = fitted(values, labels, ["a", "a"], eligible=np.array([False, True]))
    assert rules.point.apply(values).tolist() == [[1.0], [2.0]]
    with pytest.raises(UserError, match="eligible"):
        fitted(values, labels, ["a", "a"], eligible=np.array([False, False]))


def test_rules_survive_json() -> None:
    rules = ForecastRules(
        point=PointRule(tasks={"units": TaskRule(threshold=0.125, scale=0.9, cap=7.0)}),
        smape=PointRule(tasks={"units": DECISION}),
    )
    assert ForecastRules.model_validate_json(rules.model_dump_json()) == rules
