"""A run's whole configuration: every section of its one TOML file, each owned by the package it configures."""

import argparse
import datetime
import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from pydantic import field_validator

from etl.config import EtlConfig
from jobs.exit_codes import ExitCode
from m2m_model.config import ModelConfig
from m2m_model.contracts.config import StrictConfig, parse, read_toml
from m2m_model.contracts.days import newest_known_day
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.locations import Location, RunName
from m2m_model.contracts.store import MANIFEST, Folder, below, first_line, is_uri, read_manifest, store_failed
from training.config import TrainingConfig
from training.nightly.lock import LockedError
from training.registry.store import PublishedModel, Registry, published_model


class RunSection(StrictConfig):
    name: RunName
    out: Location
    """Folder or URI under which everything of the run lies."""
    raw: Location = ""
    """Folder or URI of the raw tables, as Spark reads it; default ``<out>/raw``."""

    exhibits: tuple[Path, ...] = ()
    """Folders of studies (``make exhibits``), or single pages, that the report shows, if they are there."""

    @field_validator("out")
    @classmethod
    def _is_no_pattern(cls, out: str) -> str:
        if found := sorted(set("[]{}*") & set(out)):
            raise ValueError(f"a folder's name must not have {found[0]!r}, which Spark takes for a pattern")
        return out

    def path(self, *parts: str) -> str:
        """Where a part of the run lies: raw, dataset, specs, features, model, evaluation, predictions, lists,
        experiments, daily, report, ray."""
        if parts == ("raw",) and self.raw:
            return self.raw
        # Absolute, since Ray's workers have working folders of their own.
        return below(self.out if is_uri(self.out) else str(Path(self.out).absolute()), *parts)


class RunConfig(EtlConfig, TrainingConfig):
    run: RunSection
    model: ModelConfig = ModelConfig()

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> Self:
        return parse(cls, read_toml(path, overrides), source=str(path))

    def as_of_day(self, date: datetime.date | None, *, now: datetime.datetime) -> datetime.date:
        """``date``, or the newest day whose facts are there at ``now``.

        Raises:
            UserError: ``date`` is not over yet, or its facts are not there.
        """
        raw = self.raw
        newest = newest_known_day(now, timezone=raw.timezone, after_hours=raw.known_after_hours)
        if date is not None and date > newest:
            raise UserError(
                f"--date must be a day whose facts are there, {raw.known_after_hours:g} hours after its end in "
                f"{raw.timezone}, however: {date} is later than {newest}; leave --date out for that day"
            )
        return date or newest

    def forecasting_model(self, *, before: str | None = None) -> PublishedModel:
        """The model that forecasts: the registry's promoted one, or without a registry the run's.

        ``before``: version that has forecast a day already; where the registry has it that day stays with it, since a
        later one may be trained on what came of the day, and the day's lists may have been acted upon.

        Raises:
            UserError: there is none.
        """
        if self.registry.location:
            registry = Registry(self.registry.location)
            known = before is not None and before in {version.version for version in registry.versions()}
            return registry.version(before) if before is not None and known else registry.promoted()
        return published_model(self.run.path("model"))

    def nightly_spec(self) -> str:
        """Location of the spec that feature days are built with, see :meth:`spec_of`; without a model the dataset's."""
        if self.registry.location or Folder.at(self.run.path("model")).exists(MANIFEST):
            return self.spec_of(self.forecasting_model())
        return self.dataset_spec()

    def spec_of(self, model: PublishedModel) -> str:
        """Location of the spec of ``model``'s features: a registered version's own, which has the histograms of its
        training rows beside it; else the dataset's, for the same reason, if that has the same features."""
        dataset = Folder.at(self.run.path("dataset"))
        if self.registry.location or not dataset.exists(MANIFEST):
            return model.spec_location
        manifest = read_manifest(dataset, kind="dataset", build_hint="run m2m build first")
        same = manifest.content.get("feature_fingerprint") == model.spec.feature_fingerprint
        return self.dataset_spec() if same else model.spec_location

    def dataset_spec(self) -> str:
        """Location of the live dataset's spec, by its manifest: the copy beside it is for people.

        Raises:
            UserError: there is no dataset.
        """
        location = self.run.path("dataset")
        manifest = read_manifest(Folder.at(location), kind="dataset", build_hint="run m2m build first")
        (entry,) = manifest.select(role="spec")
        return below(location, entry.path)


def argument_parser(description: str | None, *, config: str = "the run's TOML file") -> argparse.ArgumentParser:
    """The arguments that every job takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", type=Path, required=True, help=config)
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", dest="overrides")
    return parser


def run_job(main: Callable[[], int]) -> int:
    """Run a job's ``main``; what must be mended, or run again, is one line on stderr and a status of its own."""
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    except LockedError as error:
        print(f"error: {error}: wait for that process, or end it, and run the same command again", file=sys.stderr)
        return ExitCode.LOCKED
    except OSError as error:
        if error.errno == errno.ENOSPC:
            print("error: the disk is full: free some space and run the same command again", file=sys.stderr)
        elif store_failed(error):
            print(f"error: the object store failed ({first_line(error)}): run the same command again", file=sys.stderr)
        else:
            raise
        return ExitCode.STORE_FAILED
