"""One cell of a study: train a model (or fit a baseline) on one period with one seed, and sum its test errors.

A cell is one process with one thread of torch, so that as many run side by side as there are cores.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from m2m_model.config import ModelConfig
from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, Manifest, read_manifest
from m2m_model.losses import JointLoss
from m2m_model.model import Model, parameter_count
from m2m_model.zoo.registry import build_model
from training.allocator import keep_freed_memory
from training.baselines.lightgbm import OBJECTIVES
from training.baselines.registry import BASELINES, refitted
from training.compare.asides import Asides
from training.compare.ensembles import Combination, Ensemble, Together
from training.compare.intervals import LABEL_DAYS
from training.compare.jackknife import rules_without_each, sums_without_each
from training.compare.members import Form, Member, TreesForm, WeightsForm, kept_member
from training.compare.period import answers, period_sums, scenarios_of_test
from training.compare.sums import CellSums
from training.config import TrainingConfig
from training.dataset import label_statistics, open_split
from training.forecast import FORECAST_RULE, ForecastRules
from training.loop import Event, Loop, task_weights
from training.metrics import AIMED
from training.published import parquet_files, read_spec
from training.readers.base import Reader
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
    """How many models (mixed) or fits of the baseline (averaged), with seeds of their own: with seed s and n members,
    those of the seeds s n to s n + n - 1, so that no two ensembles of a study share one."""
    dataset_digest: str = ""
    """Of what the dataset is built with: cells of others are not of the same training rows."""
    keep: Path | None = None
    """Folder of fitted members that cells share (see :func:`kept_member`); default: none are kept."""
    parts: tuple["CellJob", ...] = ()
    """Of a combination: whose members forecast together, all on one dataset; its own model, baseline and members then
    say nothing."""

    @property
    def settings(self) -> str:
        """What decides the cell beside its seed, as JSON: all that is not a default."""
        if self.parts:
            parts = [json.loads(part.settings) for part in self.parts]
            return json.dumps({"parts": parts, "dataset": self.dataset_digest, "rule": FORECAST_RULE}, sort_keys=True)
        said: dict[str, Any] = {
            name: part.model_dump(mode="json", exclude_defaults=True)
            for name, part in self.sections(self.config).items()
        }
        said["train"].pop("seed", None)
        said |= {"baseline": self.baseline, "members": self.members, "dataset": self.dataset_digest}
        said |= {"rule": FORECAST_RULE}
        return json.dumps(said | {"precision": self.config.predict.precision}, sort_keys=True)

    def sections(self, config: TrainingConfig) -> dict[str, StrictConfig]:
        """The sections that decide a fitted member."""
        fitted = {"baselines": config.baselines} if self.baseline else {"model": self.model}
        return {"train": config.train, "reader": config.reader, **fitted}


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A cell's forecaster with all that was chosen on validation rows (epochs, thresholds and scales of the rules)."""

    source: Source
    manifest: Manifest
    forecaster: Together
    rules: ForecastRules
    rules_without_each: Sequence[Sequence[ForecastRules]]
    """Of an ensemble without each of its members; see :mod:`training.compare.jackknife`."""
    validation: Mapping[str, float]
    """Macro NMAE and SMAPE over eligible validation rows, each of the forecast that is aimed at it."""
    about: dict[str, str]


def fit_cell(job: CellJob, tell: Callable[[str], None]) -> Fitted:
    """Train the cell's models, or fit its baseline; the test rows are not looked at."""
    torch.set_num_threads(1)
    keep_freed_memory()
    manifest, source = open_dataset(job.dataset, batch_size=job.config.predict.batch_size)
    spec = source.spec
    parts = [_fit_members(part, source, manifest, tell) for part in job.parts or (job,)]
    members = [member for part in parts for member in (*part.first, *part.final)]
    about = {"settings": job.settings, "fit_seconds": f"{sum(member.fit_seconds for member in members):.1f}"}
    if not job.parts and isinstance(members[0].forecaster, ModelForecaster):
        about["parameters"] = str(parameter_count(members[0].forecaster.module))
    forecaster = _together([part.first for part in parts])
    judging = parquet_files(manifest, split="validation")
    rows = _scored(source, forecaster, judging)
    rules = rows.fit_rules(spec)
    sums = RowSums.empty(spec)
    sums.add(rows, rules, left_out=None)
    validation: dict[str, float] = {m: getattr(sums.errors[kind].overall, m) for m, kind in AIMED.items()}
    about |= {"rules": rules.model_dump_json(), "fingerprint": spec.feature_fingerprint}
    about |= {f"validation_{metric}": repr(value) for metric, value in validation.items()}
    fewer = rules_without_each(source, forecaster, judging)
    if any(part.final for part in parts):
        forecaster = _together([part.final or part.first for part in parts])
    return Fitted(
        source=source,
        manifest=manifest,
        forecaster=forecaster,
        rules=rules,
        rules_without_each=fewer,
        validation=validation,
        about=about,
    )


@dataclass(frozen=True, kw_only=True)
class Members:
    """Of one model or baseline."""

    first: tuple[Member, ...]
    """Fitted on training rows."""
    final: tuple[Member, ...]
    """Fitted anew on training and validation rows, where ``train.refit`` says so."""


def _fit_members(job: CellJob, source: Source, manifest: Manifest, tell: Callable[[str], None]) -> Members:
    spec = source.spec

    def fit(config: TrainingConfig) -> tuple[Forecaster, int | None]:
        if job.baseline:
            return BASELINES[job.baseline](source, manifest, config), None
        model, epochs = _trained(job, config, spec, tell)
        return ModelForecaster(model, precision=config.predict.precision), epochs

    def refit(first: Member, config: TrainingConfig) -> tuple[Forecaster, int | None]:
        if job.baseline:
            return refitted(first.forecaster, source, manifest, config), None
        assert first.epochs is not None, "a neural member tells its epochs"
        model, epochs = _trained(job, config, spec, tell, refit_epochs=first.epochs)
        return ModelForecaster(model, precision=config.predict.precision), epochs

    form: Form | None = None
    if not job.baseline:
        form = WeightsForm(model=job.model, spec=spec, precision=job.config.predict.precision)
    elif job.baseline in OBJECTIVES:
        form = TreesForm(name=job.baseline, spec=spec)
    first, final = [], []
    for seed in range(job.config.train.seed * job.members, (job.config.train.seed + 1) * job.members):
        config = _with_train(job.config, seed=seed, refit=False)
        member = kept_member(job.keep, _identity(job, config, manifest), form, partial(fit, config))
        first.append(member)
        if job.config.train.refit:
            config = _with_train(config, refit=True)
            final.append(kept_member(job.keep, _identity(job, config, manifest), form, partial(refit, member, config)))
    return Members(first=tuple(first), final=tuple(final))


def _together(parts: Sequence[Sequence[Member]]) -> Together:
    ensembles = tuple(Ensemble(members=tuple(member.forecaster for member in members)) for members in parts)
    return ensembles[0] if len(ensembles) == 1 else Combination(parts=ensembles)


def _with_train(config: TrainingConfig, **changed: Any) -> TrainingConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=changed)})


def open_dataset(dataset: str, *, batch_size: int) -> tuple[Manifest, Source]:
    """A period's dataset."""
    manifest = read_manifest(Folder.at(dataset), kind="dataset", build_hint="run make compare again")
    return manifest, Source(location=dataset, spec=read_spec(Folder.at(dataset), manifest), batch_size=batch_size)


def run_cell(job: CellJob, tell: Callable[[str], None]) -> tuple[CellSums, dict[str, str]]:
    """The cell's sums over eligible test rows, and what it took.

    Raises:
        UserError: labels are of another number of days than intervals are made for.
    """
    started = time.monotonic()
    horizon = open_dataset(job.dataset, batch_size=1)[1].spec.horizon
    if horizon != LABEL_DAYS:
        raise UserError(f"a study's labels must be of {LABEL_DAYS} days (sequence.horizon), however: {horizon}")
    fitted = fit_cell(job, tell)
    test = parquet_files(fitted.manifest, split="test")
    refit = any(part.config.train.refit for part in job.parts or (job,))
    trained = ("train", "validation") if refit else ("train",)
    asides = Asides(spec=fitted.source.spec, seen=_advertisers(job.dataset, *trained))
    source, forecaster, leave_out = fitted.source, fitted.forecaster, job.config.evaluation.leave_out
    scenarios = scenarios_of_test(fitted.manifest)
    answer = answers(source, forecaster, fitted.rules.apply, asides)
    sums = period_sums(source, answer, test, scenarios=scenarios, leave_out=leave_out)
    without = sums_without_each(
        source, forecaster, fitted.rules_without_each, test, scenarios=scenarios, leave_out=leave_out
    )
    sums = replace(sums, without=without)
    said = {"leave_out": json.dumps(leave_out), "seconds": f"{time.monotonic() - started:.1f}"}
    return sums, fitted.about | asides.about() | said


def _advertisers(dataset: str, *splits: str) -> set[object]:
    """Those of the eligible rows."""
    files, names = open_split(dataset, *splits), ["advertiser_id", "eligible"]
    tables = (files.read(file, range(len(file.row_groups)), names) for file in files.files)
    return {
        advertiser
        for table in tables
        for advertiser in table.filter(table["eligible"])["advertiser_id"].unique().to_pylist()
    }


def _identity(job: CellJob, config: TrainingConfig, manifest: Manifest) -> str:
    """All that a fitted member depends on, defaults too, which may change."""
    parts = {name: part.model_dump(mode="json") for name, part in job.sections(config).items()}
    said = {"dataset": manifest.generation, "baseline": job.baseline, "precision": config.predict.precision, **parts}
    return json.dumps(said, sort_keys=True)


def _trained(
    job: CellJob,
    config: TrainingConfig,
    spec: DatasetSpec,
    tell: Callable[[str], None],
    *,
    refit_epochs: int | None = None,
) -> tuple[Model, int]:
    """A model with the weights of its best validation loss, and after how many epochs it had them; trained as
    jobs/train does, without Ray. With ``refit_epochs`` trained for so many on training and validation rows."""
    train = config.train.model_copy(update={"epochs": refit_epochs or config.train.epochs})
    torch.manual_seed(train.seed)

    def reader(*splits: str) -> Reader:
        both = len(splits) > 1
        return open_reader(
            job.dataset, spec, config.reader, splits=splits, train=train, rank=0, world=1, eligible_only=both
        )

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
        train=reader("train", "validation") if refit_epochs else reader("train"),
        validation=None if refit_epochs else reader("validation"),
        save=lambda snapshot: None,
        tell=report,
    ).run()
    assert snapshot.best is not None, "a finished run has a best epoch"
    model.load_state_dict(snapshot.best)
    return model, refit_epochs or snapshot.state.best_epochs


def _scored(source: Source, forecaster: Forecaster, entries: Sequence[FileEntry]) -> Scored:
    collect = Collect(source=source, forecaster=forecaster)
    return Scored.concatenate([collect(entry) for entry in entries])
