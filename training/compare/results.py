"""The finished cells of a study on disk, and the tables that are made of them.

A cell is one model, period and seed: ``<folder>/<model>/<period>/seed-<k>.parquet``. Whatever is there is used, and
every table says how many of the planned cells it is made of.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from m2m_model.contracts.errors import UserError
from training.compare.intervals import (
    METRICS,
    Comparison,
    Draws,
    Freedom,
    Resamples,
    compare,
    interval,
    macro,
    ratio,
    resampled_metric,
)
from training.compare.sums import SUMS, CellSums
from training.metrics import OVERALL, Metric

RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class CellKey:
    model: str
    period: str
    seed: int

    def path(self, folder: Path) -> Path:
        return folder / self.model / self.period / f"seed-{self.seed}.parquet"


def save_cell(folder: Path, key: CellKey, sums: CellSums, about: Mapping[str, str]) -> None:
    """Write a finished cell whole or not at all. ``about``: seconds, parameters, versions, whatever explains it."""
    path = key.path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = sums.to_table()
    table = table.replace_schema_metadata({**table.schema.metadata, **{f"about.{k}": v for k, v in about.items()}})
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(table, temporary, compression="zstd", use_dictionary=["forecast", "group", "week"])
    temporary.rename(path)


def load_cell(folder: Path, key: CellKey) -> tuple[CellSums, dict[str, str]]:
    """A finished cell and what was said about it.

    Raises:
        UserError: the file is damaged.
    """
    try:
        table = pq.read_table(key.path(folder))
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(
            f"{key.path(folder)} is damaged ({str(error).splitlines()[0]}): remove it and run make compare again"
        ) from None
    about = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
    return CellSums.from_table(table), {k.removeprefix("about."): v for k, v in about.items() if k.startswith("about.")}


@dataclass(frozen=True, kw_only=True)
class Results:
    """All finished cells of the planned ones; models and periods in the order of the plan."""

    planned: tuple[CellKey, ...]
    cells: Mapping[CellKey, CellSums]
    about: Mapping[CellKey, Mapping[str, str]] = field(default_factory=dict)
    """What was said of the cells as they were saved."""

    @classmethod
    def load(cls, folder: Path, planned: Sequence[CellKey]) -> "Results":
        loaded = {key: load_cell(folder, key) for key in planned if key.path(folder).exists()}
        return cls(
            planned=tuple(planned),
            cells={key: sums for key, (sums, _) in loaded.items()},
            about={key: about for key, (_, about) in loaded.items()},
        )

    @property
    def models(self) -> tuple[str, ...]:
        """Models that have a seed with a cell in every period: only those can be averaged over the same periods."""
        return tuple(name for name in dict.fromkeys(key.model for key in self.planned) if self.whole_seeds(name))

    @property
    def periods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key.period for key in self.planned))

    @property
    def completeness(self) -> str:
        said = f"{len(self.cells)} of {len(self.planned)} planned cells (model x period x seed)"
        early = sum(key.seed not in self.whole_seeds(key.model) for key in self.cells if key.model in self.models)
        return f"{said}, {early} of them left out, of seeds that not all periods have yet" if early else said

    def whole_seeds(self, model: str) -> tuple[int, ...]:
        """Seeds of a model that have a cell in every period. Others would weigh periods differently, and tell of the
        noise of some periods' seeds as if there were none in the rest."""
        seeds = dict.fromkeys(key.seed for key in self.planned if key.model == model)
        keys = (tuple(CellKey(model=model, period=period, seed=seed) for period in self.periods) for seed in seeds)
        return tuple(of_seed[0].seed for of_seed in keys if all(key in self.cells for key in of_seed))

    def replicates(self, model: str) -> int:
        """How many seeds tell a model's noise, or, where there is one, how many members of its smallest ensemble."""
        count = len(self.whole_seeds(model))
        if count > 1:
            return count
        ensembles = [part for cell in self._of_first_seed(model) for of in cell.without.values() for part in of]
        told = all(cell.without for cell in self._of_first_seed(model))
        return min(map(len, ensembles)) if told and ensembles else count

    def _of_first_seed(self, model: str) -> list[CellSums]:
        seed = self.whole_seeds(model)[0]
        return [cell for key, cell in self.cells.items() if (key.model, key.seed) == (model, seed)]

    def seeds(self, model: str, period: str) -> list[CellSums]:
        """The model's cells of a period, by seed; of seeds that every period has."""
        return [self.cells[CellKey(model=model, period=period, seed=seed)] for seed in self.whole_seeds(model)]

    @property
    def has_left_out(self) -> bool:
        """Whether some test rows are of advertisers of ``evaluation.leave_out``."""
        return any(cell.has_left_out for cell in self.cells.values())

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Models that are planned and have no seed yet that all periods have."""
        return tuple(name for name in dict.fromkeys(key.model for key in self.planned) if name not in self.models)

    def weeks(self, period: str) -> int:
        """Weeks of a period's test rows.

        Raises:
            UserError: its cells are not of the same test rows, so that they cannot be compared.
        """
        (first, *others) = [(key, cell) for key, cell in self.cells.items() if key.period == period]
        for key, cell in others:
            if not cell.same_rows(first[1]):
                raise UserError(
                    f"all cells of period {period} must be of the same test rows, however: those of {first[0].model}/"
                    f"{first[0].seed} and {key.model}/{key.seed} differ; remove those of another dataset"
                )
        return first[1].weeks

    def shape(self) -> CellSums:
        """Any cell: scenarios and tasks are the same in all.

        Raises:
            UserError: there is none, or they are not the same.
        """
        if not self.cells:
            raise UserError("the study has no finished cell yet: run make compare first")
        (first, *others) = self.cells.items()
        for key, cell in others:
            if (cell.scenarios, cell.tasks) != (first[1].scenarios, first[1].tasks):
                raise UserError(
                    "all periods of a study must have test rows of the same scenarios and tasks, however: "
                    f"{first[0].period} has {first[1].scenarios} and {first[1].tasks}, {key.period} {cell.scenarios} "
                    f"and {cell.tasks}; move the study's test days"
                )
        return first[1]


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Every model's metrics, macro averages included, over the same resamples; the mean over periods."""

    results: Results
    values: Mapping[tuple[str, str, Metric], Float[np.ndarray, "R S1 M1"]]
    """By (model, forecast, metric)."""
    draws: Mapping[str, Resamples]
    """By period."""

    @classmethod
    def of(
        cls,
        results: Results,
        *,
        resamples: int = RESAMPLES,
        seed: int = 0,
        periods: Sequence[str] = (),
        without_left_out: bool = False,
    ) -> "Resampled":
        """``periods``: default all. ``without_left_out``: without the advertisers of ``evaluation.leave_out``.

        Raises:
            UserError: no model has a seed that all periods have yet, or cells of a period are of other test rows.
        """
        if not results.models:
            raise UserError("the study has no contender with a seed that all periods have yet: run make compare first")
        periods = tuple(periods) or results.periods
        results.shape()
        with_left_out = results.has_left_out and not without_left_out
        everybody = Resamples.draw(
            np.random.default_rng([seed, 0]), resamples=resamples, weeks=1, with_left_out=with_left_out
        )
        draws = {
            period: everybody.of_other_weeks(np.random.default_rng([seed, 1, number]), results.weeks(period))
            for number, period in enumerate(periods)
        }
        values = {}
        for number, model in enumerate(results.models):
            forecasts = [set(cell.forecasts) for period in periods for cell in results.seeds(model, period)]
            for forecast in sorted(set.intersection(*forecasts)):
                for metric in METRICS:
                    random = np.random.default_rng([seed, 2, number])
                    parts = [
                        resampled_metric(results.seeds(model, period), forecast, metric, draws[period], random)
                        for period in periods
                    ]
                    values[model, forecast, metric] = macro(np.nanmean(parts, axis=0))
        return cls(results=results, values=values, draws=draws)

    def compare(self, model_a: str, model_b: str, forecast: str, metric: Metric) -> Iterator[Comparison]:
        """Cell by cell, then the macro averages."""
        differences = self.values[model_a, forecast, metric] - self.values[model_b, forecast, metric]
        bounds = compare(differences, self._freedom(model_a, model_b), self._layout)
        shape = self.results.shape()
        for i, scenario in enumerate((*shape.scenarios, OVERALL)):
            for j, task in enumerate((*shape.tasks, OVERALL)):
                of_cell = (float(bound[i, j]) for bound in bounds)
                yield Comparison(model_a, model_b, forecast, metric, scenario, task, *of_cell)

    def compare_over(
        self, view: str, scenarios: Sequence[str], model_a: str, model_b: str, forecast: str, metric: Metric
    ) -> Comparison:
        """The macro averages over all tasks in some scenarios, which ``view`` names."""
        draws = (self.over(scenarios, model, forecast, metric) for model in (model_a, model_b))
        bounds = compare(np.subtract(*draws), self._freedom(model_a, model_b), self._layout)
        return Comparison(model_a, model_b, forecast, metric, view, OVERALL, *map(float, bounds))

    def interval(self, draws: Float[np.ndarray, "R *S"], *models: str) -> Float[np.ndarray, "2 *S"]:
        """Of something made of these models' ``values``, as wide as few weeks and seeds let it be."""
        return interval(draws, self._freedom(*models), self._layout)

    @property
    def _layout(self) -> Draws:
        return next(iter(self.draws.values())).layout

    def _freedom(self, *models: str) -> Freedom:
        counts = [self.results.replicates(model) for model in models]
        several = min((count for count in counts if count > 1), default=0)
        weeks = [of_period.weeks.shape[1] for of_period in self.draws.values()]
        return Freedom.of(weeks=weeks, seeds=[several] * len(weeks) if several else [])

    def over(self, scenarios: Sequence[str], model: str, forecast: str, metric: Metric) -> Float[np.ndarray, "R"]:
        """Macro average over all tasks in some scenarios, in every resample.

        Raises:
            UserError: there is no such scenario.
        """
        names = self.results.shape().scenarios
        if unknown := [scenario for scenario in scenarios if scenario not in names]:
            raise UserError(f"views must name scenarios of the test rows, {names}, however: {unknown[0]!r}")
        cells = self.values[model, forecast, metric][:, [names.index(scenario) for scenario in scenarios], :-1]
        average: Float[np.ndarray, R] = np.nanmean(cells, axis=(1, 2))
        return average

    def bias(self, model: str, forecast: str) -> Float[np.ndarray, "S1 M"]:
        """Sum of forecasts over sum of labels, minus 1, over seeds and periods; a last row for all scenarios."""
        totals = []
        for period, draws in self.draws.items():
            cells = np.stack([cell.forecasts[forecast] for cell in self.results.seeds(model, period)])
            totals.append(draws.first().total(cells[:, [SUMS.index("forecasts"), SUMS.index("label")]])[0].mean(axis=0))
        forecasts, labels = (np.vstack([part, part.sum(axis=0)]) for part in np.sum(totals, axis=0))
        return ratio(forecasts, labels) - 1

    def forecasts(self, model: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(forecast for name, forecast, _ in self.values if name == model))
