"""The forecast rules against a search by brute force."""

import numpy as np
import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from tests.training.tiny import SPEC
from training.forecast import DECISION, SCALES, ForecastRules, Forecasts, PointRule, TaskRule, fit_rules
from training.metrics import smape_terms


def one_task(**fields: object) -> DatasetSpec:
    return SPEC.model_copy(update={"tasks": (SPEC.tasks[0].model_copy(update=fields),)})


def fitted(values: np.ndarray, labels: np.ndarray, scenarios: list[str] | np.ndarray, **given: object) -> ForecastRules:
    spec = given.pop("spec", one_task())
    arguments = {"eligible": np.ones(len(values), bool), "exposures": np.ones(labels.shape)} | given
    return fit_rules(Forecasts.single(values), labels, scenarios=np.array(scenarios), spec=spec, **arguments)  # type: ignore[arg-type]


def macro_nmae(points: np.ndarray, labels: np.ndarray, scenarios: np.ndarray, exposures: np.ndarray) -> float:
    cells = [scenarios == scenario for scenario in np.unique(scenarios)]
    errors, labels = exposures * np.abs(points - labels), exposures * labels
    return float(np.mean([errors[c].sum() / labels[c].sum() for c in cells if labels[c].sum() > 0]))


def macro_smape(points: np.ndarray, labels: np.ndarray, scenarios: np.ndarray, exposures: np.ndarray) -> float:
    terms = smape_terms(points, labels)
    cells = [(scenarios == scenario) & (exposures[:, 0] > 0) for scenario in np.unique(scenarios)]
    return float(np.mean([terms[c].mean() for c in cells if c.any()]))


@pytest.mark.parametrize("kind", ["count", "rate"])
@pytest.mark.parametrize("seed", range(5))
def test_fit_finds_the_best_rules_there_are(seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    rows = int(random.integers(5, 40))
    values = random.gamma(0.5, 3.0, (rows, 1)).round(1)
    labels = random.poisson(values).astype(float)
    exposures = random.integers(0, 4, (rows, 1)).astype(float) if kind == "rate" else np.ones((rows, 1))
    labels[0] = exposures[0] = 1.0
    scenarios = random.choice(["a", "b", "c"], rows)
    rules = fitted(values, labels, scenarios, exposures=exposures, spec=one_task(kind=kind))
    candidates = [0.0, *np.unique(values) + 0.05]
    for rule, metric in ((rules.point, macro_nmae), (rules.smape, macro_smape)):
        best = min(
            metric(np.where(values < threshold, 0.0, values * scale), labels, scenarios, exposures)
            for threshold in candidates
            for scale in SCALES
        )
        assert metric(rule.apply(values), labels, scenarios, exposures) == pytest.approx(best)


def test_perfect_forecasts_are_left_alone() -> None:
    labels = np.array([[0.0, 5.0], [3.0, 0.0], [7.0, 2.0]])
    rules = fitted(labels, labels, ["a", "a", "b"], spec=SPEC)
    assert rules.point.apply(labels).tolist() == rules.smape.apply(labels).tolist() == labels.tolist()


def test_small_forecasts_of_true_zeros_become_zero() -> None:
    values = np.array([[0.2], [0.3], [9.0]])
    rules = fitted(values, np.array([[0.0], [0.0], [9.0]]), ["a"] * 3)
    assert rules.point == PointRule(tasks={"units": TaskRule(threshold=(0.3 + 9.0) / 2, scale=1.0)})
    assert rules.smape == rules.point


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
        point=PointRule(tasks={"units": TaskRule(threshold=0.125, scale=0.9)}),
        smape=PointRule(tasks={"units": DECISION}),
    )
    assert ForecastRules.model_validate_json(rules.model_dump_json()) == rules
