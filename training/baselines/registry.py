"""The baselines by name; each is fitted on a dataset and then is a forecaster like any model."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import FileEntry, Manifest
from training.baselines.lightgbm import OBJECTIVES, LightGbmForecaster, fit_lightgbm, refit_lightgbm
from training.baselines.naive import NaiveForecaster, NaiveRule, last_7_days, mean_28_days, median_5_weeks
from training.baselines.smoothing import SmoothingForecaster
from training.config import TrainingConfig
from training.scoring import Forecaster, Source

Fit = Callable[[Source, Manifest, TrainingConfig], Forecaster]
"""(rows of the dataset, the dataset's manifest, config) -> fitted forecaster."""


def _fit_naive(rule: NaiveRule, source: Source, manifest: Manifest, config: TrainingConfig) -> Forecaster:
    return NaiveForecaster(rule=rule, spec=source.spec)


def _fit_smoothing(source: Source, manifest: Manifest, config: TrainingConfig) -> Forecaster:
    return SmoothingForecaster(spec=source.spec)


def _fit_lightgbm(name: str, source: Source, manifest: Manifest, config: TrainingConfig) -> Forecaster:
    return fit_lightgbm(
        name,
        source.spec,
        _batches(source, _most_recent_first(manifest, "train")),
        _batches(source, _most_recent_first(manifest, "validation")),
        config=config.baselines,
        seed=config.train.seed,
        tell=lambda line: print(line, flush=True),
    )


BASELINES: dict[str, Fit] = {
    "last_7_days": partial(_fit_naive, last_7_days),
    "mean_28_days": partial(_fit_naive, mean_28_days),
    "median_5_weeks": partial(_fit_naive, median_5_weeks),
    "exponential_smoothing": _fit_smoothing,
    **{name: partial(_fit_lightgbm, name) for name in OBJECTIVES},
}


def refitted(forecaster: Forecaster, source: Source, manifest: Manifest, config: TrainingConfig) -> Forecaster:
    """A fitted baseline as ``train.refit`` wants it: fitted again on training and validation rows, or itself if
    nothing of it is fitted."""
    if not isinstance(forecaster, LightGbmForecaster):
        return forecaster
    entries = [*_most_recent_first(manifest, "validation"), *_most_recent_first(manifest, "train")]
    return refit_lightgbm(forecaster, _batches(source, entries), config=config.baselines, seed=config.train.seed)


def fit_baselines(source: Source, manifest: Manifest, config: TrainingConfig) -> dict[str, Forecaster]:
    """The baselines that the configuration names, in its order.

    Raises:
        UserError: there is no baseline of a name.
    """
    if unknown := [name for name in config.baselines.names if name not in BASELINES]:
        raise UserError(f"baselines.names must be among {list(BASELINES)}, however: {unknown[0]!r}")
    return {name: BASELINES[name](source, manifest, config) for name in config.baselines.names}


def _most_recent_first(manifest: Manifest, split: str) -> Sequence[FileEntry]:
    return sorted(manifest.select(split=split), key=lambda entry: (entry.partition["dt"], entry.path), reverse=True)


def _batches(source: Source, entries: Sequence[FileEntry]) -> Iterator[Batch]:
    return (source.batch(table) for entry in entries for table in source.tables(entry))
