"""Retraining, for every week: a dataset up to a day, a model, its registration, and its promotion or refusal.

All of it lies in ``<out>/retrain/dt=D``; the same command goes on from what is complete there. Exit status 6: the model
is registered, and was not promoted because it is worse.
"""

import datetime
import hashlib
import json
import sys
from collections.abc import Sequence

from jobs import registry
from jobs.config import RunConfig, argument_parser, run_job
from jobs.processes import common_arguments, run_module
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST, Folder, read_manifest
from training.checkpoint import CONFIG
from training.nightly.lock import locked
from training.registry.store import published_model

STAMP = "config.json"
"""The configuration that the folder's dataset was built with; the model says itself which dataset it is of."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--date",
        type=datetime.date.fromisoformat,
        help="the last day with complete raw facts; default: the newest that is over and known",
    )
    parser.add_argument("--why", default="", help="for whoever asks later; default: retraining up to that day")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    if not config.registry.location:
        raise UserError("a retrained model is registered: give the registry's folder or URI in [registry] location")
    date = config.as_of_day(arguments.date, now=datetime.datetime.now(datetime.UTC))
    out = config.run.path("retrain", f"dt={date}")
    overrides = [*arguments.overrides, f"run.out={out}", f"run.raw={config.run.path('raw')}"]
    overrides += period(config, date)
    retrained = RunConfig.read(arguments.config, overrides)
    common = common_arguments(arguments.config, overrides)
    why = arguments.why or f"retraining up to {date}"
    with locked(out) as lock:
        _train(retrained, common, keep=lock.descriptor)
        registry.main([*common, "register", "--why", why])
        version = published_model(retrained.run.path("model")).version
        return registry.main([*common, "promote", version, "--why", why], keep=lock.descriptor)


def period(config: RunConfig, last: datetime.date) -> list[str]:
    """Overrides that make ``last`` the last raw day; rows of later days, which may be there by now, are left out.

    Splits that are given as dates move along with it; training begins where it did.
    """
    overrides, split = [f"raw.last_day={last}", "checks.dates_out_of_range=drop"], config.split
    shift = last - config.raw.last_day
    for name, days in (("train", split.train), ("validation", split.validation), ("test", split.test)):
        if days is not None:
            first = days[0] if name == "train" else days[0] + shift
            overrides.append(f"split.{name}=[{first}, {days[1] + shift}]")
    return overrides


def _train(config: RunConfig, common: Sequence[str], *, keep: int) -> None:
    """The dataset and the model, unless they are there and of this configuration."""
    folder = Folder.at(config.run.path())
    key = hashlib.sha256(
        config.model_dump_json(exclude={"keeper", "registry", "engagement", "experiments"}).encode()
    ).hexdigest()
    same = folder.exists(STAMP) and json.loads(folder.read_bytes(STAMP))["config"] == key
    if not same or not Folder.at(config.run.path("dataset")).exists(MANIFEST):
        run_module("jobs.build_dataset", common, keep=keep)
        folder.replace_bytes(STAMP, json.dumps({"config": key}).encode())
    if not _is_trained(config):
        run_module("jobs.train", [*common, "--resume"], keep=keep)


def _is_trained(config: RunConfig) -> bool:
    """Whether the model is of the dataset that is there."""
    folder = Folder.at(config.run.path("model"))
    if not folder.exists(MANIFEST):
        return False
    (entry,) = read_manifest(folder, kind="model", build_hint="").select(role=CONFIG)
    dataset = read_manifest(Folder.at(config.run.path("dataset")), kind="dataset", build_hint="")
    return bool(json.loads(folder.read_bytes(entry.path))["dataset_generation"] == dataset.generation)


if __name__ == "__main__":
    sys.exit(run_job(main))
