"""Wins, ties and losses, and views, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from training.compare.intervals import Comparison
from training.compare.results import CellKey, Resampled, Results
from training.compare.study import InView
from training.compare.sums import SUMS, CellSums
from training.compare.tables import by_view, compared_in_views, compared_markdown, paired, verdicts
from training.groups import GROUPS
from training.metrics import OVERALL

NO_CELL = Comparison(
    model_a="ours",
    model_b="",
    forecast="point",
    metric="nmae",
    scenario=OVERALL,
    task=OVERALL,
    difference=-0.1,
    low=-0.2,
    high=-0.01,
    p=0.5,
)


def against(**p: float) -> list[Comparison]:
    return [replace(NO_CELL, model_b=name, p=value) for name, value in p.items()]


def test_a_tables_comparisons_are_corrected_together() -> None:
    found = {v.other: v for v in verdicts(against(a=0.02, b=0.026, c=0.001))}
    assert {name: v.adjusted_p for name, v in found.items()} == pytest.approx({"a": 0.04, "b": 0.04, "c": 0.003})
    assert {v.outcome for v in found.values()} == {"win"}


def test_forecasts_and_metrics_are_tables_of_their_own() -> None:
    smape = [replace(one, metric="smape", forecast="smape") for one in against(a=0.04)]
    (nmae, _), (other,) = (
        [v for v in verdicts(against(a=0.04, b=0.9) + smape) if v.metric == metric] for metric in ("nmae", "smape")
    )
    assert (nmae.adjusted_p, nmae.outcome) == (pytest.approx(0.08), "tie")
    assert (other.adjusted_p, other.outcome) == (pytest.approx(0.04), "win")


@pytest.mark.parametrize(
    ("p", "difference", "outcome"),
    [
        (0.049, -0.1, "win"),
        (0.049, 0.1, "loss"),
        (0.05, -0.1, "tie"),
        (0.9, -0.1, "tie"),
        (float("nan"), -0.1, "tie"),
    ],
)
def test_outcomes(p: float, difference: float, outcome: str) -> None:
    (verdict,) = verdicts([replace(one, difference=difference) for one in against(a=p)])
    assert verdict.outcome == outcome


def test_cells_are_won_and_lost_by_their_own_intervals() -> None:
    bounds = {("s", "t"): (-0.2, -0.1), ("s", "u"): (0.1, 0.2), ("r", "t"): (-0.1, 0.1), ("r", "u"): (-0.3, -0.2)}
    cells = [
        replace(NO_CELL, model_b="a", scenario=scenario, task=task, low=low, high=high)
        for (scenario, task), (low, high) in bounds.items()
    ]
    margins = [replace(NO_CELL, model_b="a", scenario="s"), replace(NO_CELL, model_b="a", task="t")]
    (verdict,) = verdicts([*against(a=0.01), *cells, *margins])
    assert (verdict.wins, verdict.losses, verdict.cells) == (2, 1, 4)


@pytest.fixture
def resampled() -> Resampled:
    """Absolute errors of 2 x scenario + task per label of 10, of the floor half of that; one week, one seed."""
    cells = {}
    for model, factor in (("ours", 1.0), ("other", 2.0), ("floor", 0.5)):
        for forecast in ("point", "smape"):
            cell = cells.setdefault(
                CellKey(model=model, period="p", seed=0),
                CellSums(scenarios=("a", "b"), tasks=("t", "u", "v"), weeks=1),
            )
            sums = np.full((len(SUMS), GROUPS + 1, 1, 2, 3), 10.0)
            errors = factor * (2 * np.arange(2)[:, None] + np.arange(3) + 1.0)
            sums[SUMS.index("absolute_error")] = sums[SUMS.index("smape")] = errors
            cell.forecasts[forecast] = sums
    return Resampled.of(Results(planned=tuple(cells), cells=cells), resamples=20)


def test_views_are_macro_averages_and_multiples_of_a_floor(resampled: Resampled) -> None:
    views = {"first": ["a"], "both": ["a", "b"]}
    plain = {(row["model"], row["view"], row["metric"]): row for row in by_view(resampled, views)}
    assert plain["ours", "first", "nmae"]["value"] == pytest.approx(0.2)
    assert plain["ours", "both", "smape"]["value"] == pytest.approx(0.3)
    assert plain["other", "both", "nmae"]["value"] == pytest.approx(0.6)
    for row in by_view(resampled, views, over="floor"):
        wanted = {"ours": 2.0, "other": 4.0, "floor": 1.0}[row["model"]]
        assert [row["value"], row["low"], row["high"]] == pytest.approx([wanted] * 3)


def test_comparisons_within_views(resampled: Resampled) -> None:
    views = {"first": ["a"], "both": ["a", "b"]}
    compared = {
        "first": InView(best="ours", others=("other", "absent", "floor")),
        "both": InView(best="other", others=("ours",)),
    }
    found = compared_in_views(resampled, views, compared)
    assert [(c.scenario, c.metric, c.model_a, c.model_b) for c in found] == [
        *(("first", metric, "ours", other) for metric in ("nmae", "smape") for other in ("other", "floor")),
        *(("both", metric, "other", "ours") for metric in ("nmae", "smape")),
    ]
    assert [c.difference for c in found] == pytest.approx([-0.2, 0.1, -0.2, 0.1, 0.3, 0.3])
    whole = {(c.metric, c.model_b): c for c in paired(resampled, "other") if c.scenario == c.task == OVERALL}
    for c in found[-2:]:
        same = whole[c.metric, c.model_b] if c.forecast == "point" else None
        assert same is None or (c.low, c.high) == pytest.approx((same.low, same.high))


def test_comparisons_of_a_view_and_metric_are_corrected_together() -> None:
    views = {"first": {"a": 0.02, "b": 0.04}, "other": {"a": 0.03}}
    found = [replace(one, scenario=view) for view, p in views.items() for one in against(**p)]
    page = compared_markdown(found, {name: name.upper() for name in ("ours", "a", "b")})
    assert "| first, NMAE: OURS | A | -0.1000 | -0.2000 .. -0.0100 | 0.040 | win |" in page
    assert "| first, NMAE: OURS | B | -0.1000 | -0.2000 .. -0.0100 | 0.040 | win |" in page
    assert "| other, NMAE: OURS | A | -0.1000 | -0.2000 .. -0.0100 | 0.030 | win |" in page


def test_a_floor_is_no_rival(resampled: Resampled) -> None:
    assert {row.model_b for row in paired(resampled, "ours", besides=["floor"])} == {"other"}
