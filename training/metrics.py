"""NMAE (eq. 22) and SMAPE (eq. 21) per segment, scenario and task, as sums that merge across workers.

Letters: N rows, M tasks.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from m2m_model.contracts.errors import DivergedError

SEGMENTS = ("eligible", "eligible_rest", "own_history", "no_history")
"""Rows of eligible pairs (the headline), of those without the advertisers that ``evaluation.leave_out`` names, of pairs
with own active days in the window, and of pairs without."""
HEADLINE = SEGMENTS[0]
OVERALL = "overall"
ABSOLUTE_ERROR, LABEL, SMAPE, ROWS = range(4)
Metric = Literal["nmae", "smape"]
AIMED: Mapping[Metric, str] = {"nmae": "point", "smape": "smape"}
"""Metrics, each with the forecast that is aimed at it."""


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One line of the metrics table.

    ``overall`` as scenario or task is the macro average over cells; its ``n`` is the sum over them. ``nmae`` of a cell
    without any label mass is NaN: such cells are left out of the macro NMAE and counted in ``left_out``. ``smape`` is
    NaN, and left out, where a rate has no row with exposure.
    """

    model: str
    segment: str
    scenario: str
    task: str
    forecast: str
    nmae: float
    smape: float
    n: int
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class MetricSums:
    """Sums of absolute errors, labels, SMAPE terms and rows; divided once, in :meth:`rows`.

    Example:
        >>> sums = MetricSums(tasks=("units",))
        >>> one = np.array([True])
        >>> sums.add(np.array(["shelf"]), one, np.array([3]), np.array([[1.0]]), np.array([[4.0]]))
        >>> cell = sums.rows(model="m", forecast="mean")[0]
        >>> cell.scenario, cell.nmae, cell.smape
        ('shelf', 0.75, 1.2)
    """

    tasks: tuple[str, ...]
    cells: dict[tuple[str, str], Float[np.ndarray, "M 4"]] = field(default_factory=dict)
    """By (segment, scenario)."""

    def add(
        self,
        scenarios: np.ndarray,
        eligible: Bool[np.ndarray, "N"],
        active_days: Int[np.ndarray, "N"],
        forecasts: Float[np.ndarray, "N M"],
        labels: Float[np.ndarray, "N M"],
        *,
        exposures: Float[np.ndarray, "N M"] | None = None,
        left_out: Bool[np.ndarray, "N"] | None = None,
    ) -> None:
        """Add rows; ``scenarios`` are N scenario ids. Without ``left_out`` there is no segment ``eligible_rest``.

        ``exposures``: what rates are per, 1 of other tasks; errors and labels count as often, rows without none at all.
        """
        check_finite(forecasts, self.tasks)
        if exposures is None:
            exposures = np.ones(labels.shape)
        exposed = exposures > 0
        errors = exposures * np.abs(forecasts - labels)
        terms = np.stack([errors, exposures * labels, exposed * smape_terms(forecasts, labels), exposed], axis=2)
        for key, chosen in segment_rows(scenarios, eligible, active_days, left_out):
            self._add_cell(key, terms[chosen].sum(axis=0))

    def merge(self, other: Self) -> Self:
        """The sums of both, as if one worker had seen all rows."""
        assert self.tasks == other.tasks
        merged = type(self)(tasks=self.tasks, cells={key: cell.copy() for key, cell in self.cells.items()})
        for key, cell in other.cells.items():
            merged._add_cell(key, cell)
        return merged

    def _add_cell(self, key: tuple[str, str], sums: Float[np.ndarray, "M 4"]) -> None:
        self.cells[key] = self.cells[key] + sums if key in self.cells else sums

    @property
    def overall(self) -> MetricRow:
        """The macro average over scenarios and tasks of eligible rows."""
        rows = self.rows(model="", forecast="")
        return next(row for row in rows if (row.segment, row.scenario, row.task) == (HEADLINE, OVERALL, OVERALL))

    def rows(self, *, model: str, forecast: str) -> list[MetricRow]:
        """Cells by segment, scenario and task, then their macro averages over scenarios, tasks and both."""
        rows = []
        for segment in SEGMENTS:
            cells = [
                MetricRow(
                    model=model,
                    segment=segment,
                    scenario=scenario,
                    task=task,
                    forecast=forecast,
                    nmae=float(sums[ABSOLUTE_ERROR] / sums[LABEL]) if sums[LABEL] > 0 else math.nan,
                    smape=float(sums[SMAPE] / sums[ROWS]) if sums[ROWS] > 0 else math.nan,
                    n=int(sums[ROWS]),
                )
                for (cell_segment, scenario), per_task in sorted(self.cells.items())
                if cell_segment == segment
                for task, sums in zip(self.tasks, per_task, strict=True)
            ]
            scenarios = list(dict.fromkeys(cell.scenario for cell in cells))
            rows += cells
            rows += [_macro([c for c in cells if c.scenario == s], scenario=s, task=OVERALL) for s in scenarios]
            if cells:
                rows += [_macro([c for c in cells if c.task == t], scenario=OVERALL, task=t) for t in self.tasks]
                rows.append(_macro(cells, scenario=OVERALL, task=OVERALL))
        return rows


def check_finite(forecasts: Float[np.ndarray, "N M"], tasks: Sequence[str]) -> None:
    """Raises DivergedError if a forecast is no finite number: it would drop out of averages unseen."""
    broken = ~np.isfinite(forecasts).all(axis=0)
    if broken.any():
        task = tasks[int(broken.argmax())]
        raise DivergedError(f"forecasts must be finite numbers, however: some of {task} are not; look at the model")


def segment_rows(
    scenarios: np.ndarray,
    eligible: Bool[np.ndarray, "N"],
    active_days: Int[np.ndarray, "N"],
    left_out: Bool[np.ndarray, "N"] | None,
) -> Iterator[tuple[tuple[str, str], Bool[np.ndarray, "N"]]]:
    """The rows of every (segment, scenario) that has any."""
    rest = np.zeros_like(eligible) if left_out is None else eligible & ~left_out
    members = dict(zip(SEGMENTS, (eligible, rest, active_days > 0, active_days == 0), strict=True))
    for scenario in np.unique(scenarios):
        for segment, member in members.items():
            chosen = member & (scenarios == scenario)
            if chosen.any():
                yield (segment, str(scenario)), chosen


def smape_terms(forecasts: Float[np.ndarray, "*N"], labels: Float[np.ndarray, "*N"]) -> Float[np.ndarray, "*N"]:
    """The terms of eq. 21, |f - y| / ((f + y) / 2), with 0/0 := 0; range [0, 2]."""
    middle = (np.abs(forecasts) + np.abs(labels)) / 2
    terms: Float[np.ndarray, "*N"] = np.zeros_like(middle)
    np.divide(np.abs(forecasts - labels), middle, out=terms, where=middle > 0)
    return terms


def _macro(cells: Sequence[MetricRow], *, scenario: str, task: str) -> MetricRow:
    defined = [cell.nmae for cell in cells if not math.isnan(cell.nmae)]
    exposed = [cell.smape for cell in cells if not math.isnan(cell.smape)]
    return MetricRow(
        model=cells[0].model,
        segment=cells[0].segment,
        scenario=scenario,
        task=task,
        forecast=cells[0].forecast,
        nmae=math.fsum(defined) / len(defined) if defined else math.nan,
        smape=math.fsum(exposed) / len(exposed) if exposed else math.nan,
        n=sum(cell.n for cell in cells),
        left_out=len(cells) - len(defined),
    )


def to_csv(rows: Iterable[MetricRow]) -> str:
    """The metrics table as CSV, one header line, numbers in full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(MetricRow.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    return text.getvalue()
