"""One cell of a study: train a model (or fit a baseline) on one period with one seed, and sum its test errors.

A cell is one process with one thread of torch, so that as many run side by side as there are cores.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, read_manifest
from m2m_model.losses import JointLoss
from m2m_model.model import Model, parameter_count
from m2m_model.zoo.registry import build_model
from training.baselines.registry import BASELINES
from training.compare.period import period_sums
from training.compare.sums import CellSums
from training.config import TrainingConfig
from training.dataset import label_statistics, open_split
from training.forecast import Forecasts, fit_rules
from training.loop import Event, Loop, task_weights
from training.predict import parquet_files, read_spec
from training.readers.registry import open_reader
from training.scoring import Collect, Forecaster, ModelForecaster, Scored, Source

MEMBER_SEEDS = 1000
"""Distance of the seeds of an ensemble's members."""


@dataclass(frozen=True, kw_only=True)
class CellJob:
    dataset: str
    """Published folder of the period's dataset."""
    model: ModelConfig
    config: TrainingConfig
    baseline: str
    """Empty: the neural model."""
    members: int
    """How many models, trained with seeds of their own, are averaged."""


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


def run_cell(job: CellJob, tell: Callable[[str], None]) -> tuple[CellSums, dict[str, str]]:
    """The cell's sums over eligible test rows, and what it took.

    All that is chosen (epochs, thresholds and scales of the forecast rules) is chosen on validation rows.
    """
    torch.set_num_threads(1)
    started = time.monotonic()
    manifest = read_manifest(Folder.at(job.dataset), kind="dataset", build_hint="run make compare again")
    spec = read_spec(Folder.at(job.dataset), manifest)
    source = Source(location=job.dataset, spec=spec, batch_size=job.config.predict.batch_size)
    about = {}
    if job.baseline:
        forecaster = BASELINES[job.baseline](source, manifest, job.config)
    else:
        models = [_trained(job, spec, number, tell) for number in range(job.members)]
        about["parameters"] = str(parameter_count(models[0]))
        forecaster = Ensemble(members=tuple(ModelForecaster(model) for model in models))
    fitted = time.monotonic()
    validation = _scored(source, forecaster, parquet_files(manifest, split="validation"))
    rules = fit_rules(
        validation.forecasts,
        validation.labels,
        validation.exposures,
        validation.scenarios,
        validation.eligible,
        spec,
    )
    test = parquet_files(manifest, split="test")
    sums = period_sums(source, forecaster, rules.apply, test, scenarios=spec.scenarios)
    about |= {"fit_seconds": f"{fitted - started:.1f}", "seconds": f"{time.monotonic() - started:.1f}"}
    about |= {"rules": rules.model_dump_json(), "fingerprint": spec.feature_fingerprint}
    return sums, about


def _trained(job: CellJob, spec: DatasetSpec, member: int, tell: Callable[[str], None]) -> Model:
    """A model with the weights of its best validation loss; trained as jobs/train does, without Ray."""
    train = job.config.train.model_copy(update={"seed": job.config.train.seed + MEMBER_SEEDS * member})
    torch.manual_seed(train.seed)
    readers = {
        split: open_reader(job.dataset, spec, job.config.reader, split=split, train=train, rank=0, world=1)
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
