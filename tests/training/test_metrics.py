"""NMAE and SMAPE against values computed by hand."""

import math

import numpy as np
import pytest

from m2m_model.contracts.errors import UserError
from training.metrics import MetricRow, MetricSums, smape_terms, to_csv

SCENARIOS = np.array(["shelf", "shelf", "mailer", "mailer"])
ELIGIBLE = np.array([True, True, True, False])
ACTIVE = np.array([3, 2, 0, 0])
LABELS = np.array([[4.0, 0.0], [6.0, 2.0], [2.0, 0.0], [8.0, 0.0]])
FORECASTS = np.array([[5.0, 0.0], [3.0, 1.0], [2.0, 0.5], [0.0, 0.0]])


def sums_of(rows: slice) -> MetricSums:
    sums = MetricSums(tasks=("units", "sales"))
    sums.add(SCENARIOS[rows], ELIGIBLE[rows], ACTIVE[rows], FORECASTS[rows], LABELS[rows])
    return sums


def cell(sums: MetricSums, segment: str, scenario: str, task: str) -> MetricRow:
    rows = sums.rows(model="m2m", forecast="mean")
    (found,) = [r for r in rows if (r.segment, r.scenario, r.task) == (segment, scenario, task)]
    return found


def test_cells_are_what_a_pencil_gives() -> None:
    sums = sums_of(slice(None))
    units = cell(sums, "eligible", "shelf", "units")
    assert units.nmae == pytest.approx((1 + 3) / 10)
    assert units.smape == pytest.approx((1 / 4.5 + 3 / 4.5) / 2)
    assert units.n == 2
    assert cell(sums, "eligible", "mailer", "units").nmae == 0
    assert cell(sums, "eligible", "shelf", "sales").smape == pytest.approx((0 + 1 / 1.5) / 2)


def test_a_cell_without_labels_has_no_nmae_and_is_left_out_of_the_macro() -> None:
    sums = sums_of(slice(None))
    assert math.isnan(cell(sums, "eligible", "mailer", "sales").nmae)
    overall = cell(sums, "eligible", "overall", "overall")
    assert overall.nmae == pytest.approx((0.4 + 0.5 + 0.0) / 3)
    assert overall.left_out == 1
    assert overall.smape == pytest.approx(((1 / 4.5 + 3 / 4.5) / 2 + (1 / 1.5) / 2 + 0 + 2) / 4)
    assert overall.n == 2 + 2 + 1 + 1


def test_macro_is_given_per_task_and_per_scenario_too() -> None:
    sums = sums_of(slice(None))
    assert cell(sums, "eligible", "overall", "units").nmae == pytest.approx(0.2)
    assert cell(sums, "eligible", "shelf", "overall").nmae == pytest.approx(0.45)


def test_segments_split_rows_by_own_history() -> None:
    sums = sums_of(slice(None))
    assert cell(sums, "own_history", "shelf", "units").n == 2
    without = cell(sums, "no_history", "mailer", "units")
    assert (without.n, without.nmae) == (2, pytest.approx(0.8))


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4])
def test_workers_merge_to_what_one_would_have(cut: int) -> None:
    merged = sums_of(slice(0, cut)).merge(sums_of(slice(cut, None)))
    whole = sums_of(slice(None))
    # repr compares NaN cells too.
    assert list(map(repr, merged.rows(model="m", forecast="mean"))) == list(
        map(repr, whole.rows(model="m", forecast="mean"))
    )


def test_merging_leaves_both_parts_alone() -> None:
    first, second = sums_of(slice(0, 2)), sums_of(slice(2, 4))
    before = repr(first.rows(model="m", forecast="mean"))
    first.merge(second)
    assert repr(first.rows(model="m", forecast="mean")) == before


def test_smape_terms_run_from_0_to_2() -> None:
    terms = smape_terms(np.array([[0.0, 1e-9, 3.0]]), np.array([[0.0, 0.0, 3.0]]))
    assert terms.tolist() == [[0.0, 2.0, 0.0]]


def test_a_forecast_that_is_no_number_is_refused_and_not_averaged_away() -> None:
    sums = MetricSums(tasks=("clicks", "sales"))
    ones = np.ones((2, 2))
    with pytest.raises(UserError, match="some of sales are not"):
        sums.add(np.array(["a", "b"]), np.ones(2, bool), np.ones(2, int), np.array([[1.0, 1.0], [1.0, np.nan]]), ones)


def test_csv_has_one_header_and_a_line_per_row() -> None:
    rows = sums_of(slice(None)).rows(model="m2m", forecast="point")
    lines = to_csv(rows).splitlines()
    assert lines[0] == "model,segment,scenario,task,forecast,nmae,smape,n,left_out"
    assert len(lines) == len(rows) + 1


def test_left_out_rows_are_missing_from_the_rest_alone() -> None:
    sums = MetricSums(tasks=("units",))
    forecasts, labels = np.array([[1.0], [10.0]]), np.array([[2.0], [20.0]])
    rows = np.array(["a", "a"]), np.array([True, True]), np.array([1, 1])
    sums.add(*rows, forecasts, labels, left_out=np.array([False, True]))
    cells = {row.segment: row for row in sums.rows(model="m", forecast="mean") if row.scenario == "a"}
    assert (cells["eligible"].n, cells["eligible_rest"].n) == (2, 1)
    assert cells["eligible_rest"].nmae == 0.5
