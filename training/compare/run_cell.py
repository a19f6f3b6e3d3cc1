"""One cell of a study: train a model (or fit a baseline) on one period with one seed, and sum its test errors.

A cell is one process with one thread of torch, so that as many run side by side as there are cores.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, Manifest, read_manifest
from m2m_model.losses import JointLoss
from m2m_model.model import Model, parameter_count
from m2m_model.zoo.registry import build_model
from training.baselines.lightgbm import OBJECTIVES
from training.baselines.registry import BASELINES
from training.compare.members import Form, TreesForm, WeightsForm, kept_member
from training.compare.period import answers, period_sums, scenarios_of_test
from training.compare.sums import CellSums
from training.config import TrainingConfig
from training.dataset import label_statistics, open_split
from training.forecast import ForecastRules, Forecasts, fit_rules
from training.loop import Event, Loop, task_weights
from training.metrics import AIMED, HEADLINE, OVERALL, MetricRow, MetricSums
from training.published import parquet_files, read_spec
from training.readers.registry import open_reader
from training.row_sums import RowSums
from training.scoring import Collect, Forecaster, ModelForecaster, Scored, Source


@dataclass(frozen=True, kw_only=True)
class CellJob:
    dataset: str
    """Published folder of the period's dataset."""
    model: ModelConfig
    config: TrainingConfig
    baseline: str
    """Empty: the neural model."""
    members: int
    """How many models or fits of the baseline, with seeds of their own, are averaged: with seed s and n members,
    those of the seeds s n to s n + n - 1, so that no two ensembles of a study share one."""
    dataset_digest: str = ""
    """Of what the dataset is built with: cells of others are not of the same training rows."""
    keep: Path | None = None
    """Folder of fitted members that cells share (see :func:`kept_member`); default: none are kept."""

    @property
    def settings(self) -> str:
        """What decides the cell beside its seed, as JSON: all that is not a default."""
        said: dict[str, Any] = {
            name: part.model_dump(mode="json", exclude_defaults=True) for name, part in self.parts(self.config).items()
        }
        said["train"].pop("seed", None)
        said |= {"baseline": self.baseline, "members": self.members, "dataset": self.dataset_digest}
        return json.dumps(said | {"precision": self.config.predict.precision}, sort_keys=True)

    def parts(self, config: TrainingConfig) -> dict[str, StrictConfig]:
        """The sections that decide a fitted member."""
        fitted = {"baselines": config.baselines} if self.baseline else {"model": self.model}
        return {"train": config.train, "reader": config.reader, **fitted}


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The mean of its members' forecasts."""

    members: tuple[Forecaster, ...]

    @property
    def quantiles(self) -> bool:
        return all(member.quantiles for member in self.members)

    def __call__(self, batch: Batch) -> Forecasts:
        parts = [member(batch) for member in self.members]
        return Forecasts(*(np.mean(field, axis=0) for field in zip(*parts, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A cell's forecaster with all that was chosen on validation rows (epochs, thresholds and scales of the rules)."""

    source: Source
    manifest: Manifest
    forecaster: Forecaster
    rules: ForecastRules
    validation: Mapping[str, float]
    """Macro NMAE and SMAPE over eligible validation rows, each of the forecast that is aimed at it."""
    about: dict[str, str]


def fit_cell(job: CellJob, tell: Callable[[str], None]) -> Fitted:
    """Train the cell's models, or fit its baseline; the test rows are not looked at."""
    torch.set_num_threads(1)
    manifest, source = open_dataset(job.dataset, batch_size=job.config.predict.batch_size)
    spec = source.spec

    def fit(config: TrainingConfig) -> Forecaster:
        if job.baseline:
            return BASELINES[job.baseline](source, manifest, config)
        return ModelForecaster(_trained(job, config, spec, tell), precision=config.predict.precision)

    form: Form | None = None
    if not job.baseline:
        form = WeightsForm(model=job.model, spec=spec, precision=job.config.predict.precision)
    elif job.baseline in OBJECTIVES:
        form = TreesForm(name=job.baseline, spec=spec)
    members = []
    for seed in range(job.config.train.seed * job.members, (job.config.train.seed + 1) * job.members):
        train = job.config.train.model_copy(update={"seed": seed})
        config = job.config.model_copy(update={"train": train})
        members.append(kept_member(job.keep, _identity(job, config, manifest), form, partial(fit, config)))
    forecaster = Ensemble(members=tuple(member.forecaster for member in members))
    about = {"settings": job.settings, "fit_seconds": f"{sum(member.fit_seconds for member in members):.1f}"}
    if isinstance(members[0].forecaster, ModelForecaster):
        about["parameters"] = str(parameter_count(members[0].forecaster.module))
    rows = _scored(source, forecaster, parquet_files(manifest, split="validation"))
    rules = fit_rules(rows.forecasts, rows.labels, rows.exposures, rows.scenarios, rows.eligible, spec)
    sums = RowSums.empty(spec)
    sums.add(rows, rules, left_out=None)
    validation: dict[str, float] = {m: getattr(_overall(sums.errors[kind]), m) for m, kind in AIMED.items()}
    about |= {"rules": rules.model_dump_json(), "fingerprint": spec.feature_fingerprint}
    about |= {f"validation_{metric}": repr(value) for metric, value in validation.items()}
    return Fitted(
        source=source, manifest=manifest, forecaster=forecaster, rules=rules, validation=validation, about=about
    )


def open_dataset(dataset: str, *, batch_size: int) -> tuple[Manifest, Source]:
    """A period's dataset."""
    manifest = read_manifest(Folder.at(dataset), kind="dataset", build_hint="run make compare again")
    return manifest, Source(location=dataset, spec=read_spec(Folder.at(dataset), manifest), batch_size=batch_size)


def run_cell(job: CellJob, tell: Callable[[str], None]) -> tuple[CellSums, dict[str, str]]:
    """The cell's sums over eligible test rows, and what it took."""
    started = time.monotonic()
    fitted = fit_cell(job, tell)
    test = parquet_files(fitted.manifest, split="test")
    sums = period_sums(
        fitted.source,
        answers(fitted.source, fitted.forecaster, fitted.rules.apply),
        test,
        scenarios=scenarios_of_test(fitted.manifest),
        leave_out=job.config.evaluation.leave_out,
    )
    return sums, fitted.about | {"seconds": f"{time.monotonic() - started:.1f}"}


def _overall(sums: MetricSums) -> MetricRow:
    rows = sums.rows(model="", forecast="")
    return next(row for row in rows if (row.segment, row.scenario, row.task) == (HEADLINE, OVERALL, OVERALL))


def _identity(job: CellJob, config: TrainingConfig, manifest: Manifest) -> str:
    """All that a fitted member depends on."""
    parts = {name: part.model_dump(mode="json") for name, part in job.parts(config).items()}
    said = {"dataset": manifest.generation, "baseline": job.baseline, "precision": config.predict.precision, **parts}
    return json.dumps(said, sort_keys=True)


def _trained(job: CellJob, config: TrainingConfig, spec: DatasetSpec, tell: Callable[[str], None]) -> Model:
    """A model with the weights of its best validation loss; trained as jobs/train does, without Ray."""
    train = config.train
    torch.manual_seed(train.seed)
    readers = {
        split: open_reader(job.dataset, spec, config.reader, split=split, train=train, rank=0, world=1)
        for split in ("train", "validation")
    }
    model = build_model(job.model, spec)
    statistics = label_statistics(open_split(job.dataset, "train"), spec)

    def report(event: Event) -> None:
        if event.validation is not None:
            tell(f"epoch {event.epoch + 1}: train {event.loss:.4f}, validation {event.validation:.4f}")

    snapshot = Loop(
        model=model,
        loss=JointLoss(model, train.loss, weights=task_weights(spec, train), statistics=statistics),
        spec=spec,
        config=train.model_copy(update={"checkpoint_every_steps": 10**9}),
        train=readers["train"],
        validation=readers["validation"],
        save=lambda snapshot: None,
        tell=report,
    ).run()
    assert snapshot.best is not None, "a finished run has a best epoch"
    model.load_state_dict(snapshot.best)
    return model


def _scored(source: Source, forecaster: Forecaster, entries: Sequence[FileEntry]) -> Scored:
    collect = Collect(source=source, forecaster=forecaster)
    return Scored.concatenate([collect(entry) for entry in entries])
