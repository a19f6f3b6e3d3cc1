"""Every period's metrics against sums by hand, what models cost, and the aim."""

import json

import numpy as np
import pytest

from m2m_model.contracts.schema import QUANTILES
from tests.compare.test_intervals import random_cell
from training.compare.figures import reliability
from training.compare.records import (
    POOLED,
    by_period,
    calibration,
    calibration_markdown,
    costs_markdown,
    unseen_markdown,
)
from training.compare.results import CellKey, Resampled, Results
from training.compare.study import AimSection
from training.compare.sums import SUMS
from training.compare.tables import aim_markdown, table4
from training.metrics import OVERALL


@pytest.fixture(scope="module")
def results() -> Results:
    keys = [CellKey(model=m, period=p, seed=s) for m in ("a", "b") for p in ("early", "late") for s in (0, 1)]
    about = {key: {"fit_seconds": str(10 * (key.seed + 1)), "parameters": "1234"} for key in keys}
    cells = {key: random_cell(10 * (key.period == "late") + key.seed + 5 * (key.model == "b")) for key in keys}
    for cell in cells.values():
        cell.forecasts["smape"] = cell.forecasts["point"].copy()
    return Results(planned=tuple(keys), cells=cells, about=about)


def test_periods_average_to_table_4_and_pooled_rows_are_summed_up(results: Results) -> None:
    rows = list(by_period(results))
    found = {(r["model"], r["forecast"], r["period"], r["scenario"], r["task"]): r for r in rows}
    for row in table4(Resampled.of(results, resamples=3)):
        own = [found[row["model"], row["forecast"], period, row["scenario"], row["task"]] for period in results.periods]
        for metric in ("nmae", "smape"):
            assert row[metric] == pytest.approx(np.mean([one[metric] for one in own]))
    shape = results.shape()
    cells = results.seeds("a", "late")
    for forecast in cells[0].forecasts:
        error, label = (
            np.mean([cell.forecasts[forecast][SUMS.index(part)].sum(axis=(0, 1, 2)) for cell in cells], axis=0)
            for part in ("absolute_error", "label")
        )
        pooled = [found["a", forecast, "late", POOLED, task]["nmae"] for task in shape.tasks]
        assert pooled == pytest.approx(error / label)
        assert found["a", forecast, "late", POOLED, OVERALL]["nmae"] == pytest.approx(np.mean(error / label))


def test_costs_are_of_all_cells(results: Results) -> None:
    (*_, last) = costs_markdown(results, {"a": "A"}).splitlines()
    assert last == "| b | 1,234 | 15 | 20 |"
    assert costs_markdown(Results(planned=results.planned, cells=results.cells), {}) == ""


def test_calibration_adds_up_over_cells(results: Results) -> None:
    counts = {"s": {"t": [[1.0, 2.0, 10.0]] * len(QUANTILES)}}
    about = {key: {"calibration": json.dumps(counts)} for key in results.planned if key.model == "a"}
    told = list(calibration(Results(planned=results.planned, cells=results.cells, about=about)))
    assert [line["level"] for line in told] == list(QUANTILES.values())
    assert {(line["model"], line["scenario"], line["task"]) for line in told} == {("a", "s", "t")}
    assert {(line["below"], line["at_most"]) for line in told} == {(0.1, 0.2)}
    (*_, last) = calibration_markdown(told, {}).splitlines()
    assert last.endswith(f"| {1 / len(QUANTILES):.0%} |")  # .1 lies between; .05 and .25 do not, by more than .02
    five = [line | {"model": model} for model in "abcde" for line in told]
    picture = reliability(five, titles={"e": "The fifth"}, completeness="5 of 6")
    assert "The fifth" in picture
    assert "5 of 6" in picture


def test_errors_on_unseen_advertisers_are_averaged(results: Results) -> None:
    about = {
        key: {"unseen": json.dumps({"advertisers": 3, "rows": 10, "nmae": 0.5 + key.seed, "smape": 1.0})}
        for key in results.planned
        if key.model == "a"
    }
    (*_, last) = unseen_markdown(Results(planned=results.planned, cells=results.cells, about=about), {}).splitlines()
    assert last == "| a | 1.0000 | 1.0000 | 10 | 2 |"
    assert unseen_markdown(results, {}) == ""


def test_errors_on_other_unseen_advertisers_are_not_set_beside(results: Results) -> None:
    """Of three models the last was trained on rows that know fewer advertisers."""
    models = ("a", "b", "c")
    cells = {
        CellKey(model=m, period=key.period, seed=key.seed): cell
        for m in models
        for key, cell in results.cells.items()
        if key.model == "a"
    }
    about = {
        key: {"unseen": json.dumps({"advertisers": 3 + (key.model == "c"), "rows": 10, "nmae": 0.5, "smape": 1.0})}
        for key in cells
    }
    (_, _, *lines) = unseen_markdown(Results(planned=tuple(cells), cells=cells, about=about), {}).splitlines()
    assert [line.split(" | ")[0] for line in lines] == ["| a", "| b"]


def test_an_aim_is_met_where_the_value_is_and_chance_excluded(results: Results) -> None:
    resampled = Resampled.of(results, resamples=50)
    value = resampled.values["a", "point", "nmae"][0, -1, -1]
    text = aim_markdown(resampled, "a", AimSection(nmae=value, smape=0.0, ahead={"a": 0.0, "b": 0.99}), {})
    met = [line.split("|")[-2].strip() for line in text.splitlines()[2:]]
    assert met == ["yes", "no", "no", "no", "no", "no"]
    assert "NMAE below a" in text
    assert "SMAPE 99% below b" in text
