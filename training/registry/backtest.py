"""Whether a candidate is worse than the promoted model: both forecast the same rows of the test period's as-of days.

Every as-of day of the test period is an origin that forecasts are made from, as the nights would have made them. The
interval of the difference resamples advertiser groups and weeks, the same for both (``training.compare.intervals``).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, Manifest, read_manifest
from training.checkpoint import LoadedModel
from training.compare.intervals import Freedom, Resamples, compare, macro, resampled_metric
from training.compare.period import answers, period_sums, scenarios_of_test
from training.compare.sums import SUMS, CellSums
from training.config import PredictConfig
from training.published import parquet_files
from training.registry.config import RegistryConfig
from training.scoring import ModelForecaster, Source

SEED = 0
"""Of the resamples: the same models and rows give the same interval."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """``difference``: candidate minus promoted, with its interval; negative means that the candidate is better."""

    metric: str
    forecast: str
    candidate: float
    promoted: float
    difference: float
    low: float
    high: float
    level: float
    tolerance: float
    rows: int
    origins: int
    weeks: int

    @property
    def worse(self) -> bool:
        return self.difference > self.tolerance

    @property
    def text(self) -> str:
        allowed = f" (allowed: {self.tolerance:+.4f})" if self.tolerance else ""
        noise = " The interval holds 0: it may be chance." if self.low <= 0 <= self.high else ""
        return (
            f"{self.metric.upper()} of the {self.forecast} forecast: candidate {self.candidate:.4f}, promoted "
            f"{self.promoted:.4f}, difference {self.difference:+.4f}{allowed}, {self.level:.0%} interval "
            f"[{self.low:+.4f}, {self.high:+.4f}], over {self.rows:,} rows, {self.origins} as-of days in {self.weeks} "
            f"weeks.{noise}"
        )

    def evidence(self) -> dict[str, Any]:
        return asdict(self)


def tested(dataset: str) -> Manifest:
    """The manifest of a dataset with test rows.

    Raises:
        UserError: there is no such dataset.
    """
    manifest = read_manifest(Folder.at(dataset), kind="dataset", build_hint="run m2m build first")
    if not sum(entry.rows for entry in parquet_files(manifest, split="test")):
        raise UserError(f"{dataset} must have test rows to compare models on, however: it has none")
    return manifest


def backtest(model: LoadedModel, dataset: str, config: PredictConfig) -> CellSums:
    """A model's errors over the eligible test rows of a dataset that was built with its spec.

    Raises:
        UserError: the dataset has other features than the model.
    """
    manifest = tested(dataset)
    fingerprint = manifest.content.get("feature_fingerprint")
    if fingerprint != model.spec.feature_fingerprint:
        raise UserError(
            f"{dataset} must have the features {model.spec.feature_fingerprint} of model {model.version}, however: "
            f"{fingerprint}; build it with --spec of that model"
        )
    source = Source(location=dataset, spec=model.spec, batch_size=config.batch_size)
    forecaster = ModelForecaster(model.module, config.precision)
    entries = parquet_files(manifest, split="test")
    return period_sums(
        source, answers(source, forecaster, model.rules.apply), entries, scenarios=scenarios_of_test(manifest)
    )


def judge(candidate: CellSums, promoted: CellSums, config: RegistryConfig, *, origins: int) -> Verdict:
    """The candidate against the promoted model.

    Raises:
        UserError: they were not tested on the same rows, or no test label is positive.
    """
    forecast = config.forecast
    if not candidate.same_rows(promoted):
        raise UserError("the models must be tested on the same rows and tasks, however: theirs differ")
    random = np.random.default_rng(SEED)
    resamples = Resamples.draw(random, resamples=config.resamples + 1, weeks=candidate.weeks)
    values = [
        macro(resampled_metric([cell], forecast, config.metric, resamples, random)) for cell in (candidate, promoted)
    ]
    freedom = Freedom.of(weeks=[candidate.weeks], seeds=[])
    bounds = compare(values[0] - values[1], freedom, resamples.layout, level=config.level)
    difference, low, high, _ = (cells[-1, -1] for cells in bounds)
    if not np.isfinite(difference):
        raise UserError(f"{config.metric} cannot be compared: no test label is positive; test on a longer period")
    return Verdict(
        metric=config.metric,
        forecast=forecast,
        candidate=float(values[0][0, -1, -1]),
        promoted=float(values[1][0, -1, -1]),
        difference=float(difference),
        low=float(low),
        high=float(high),
        level=config.level,
        tolerance=config.tolerance,
        rows=int(candidate.forecasts[forecast][SUMS.index("rows")].sum()) // len(candidate.tasks),
        origins=origins,
        weeks=candidate.weeks,
    )
