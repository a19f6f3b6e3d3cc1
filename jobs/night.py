"""The steps of one night, in order; each says whether it had to do anything."""

import datetime
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from jobs.config import RunConfig
from jobs.exit_codes import ExitCode, worst
from jobs.processes import run_module
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST, Folder, Manifest, below, read_manifest
from training.engagement.inputs import KIND as LIST
from training.engagement.inputs import is_current
from training.monitor.publish import monitor_night
from training.nightly.checks import check_night
from training.nightly.page import write_page
from training.nightly.summary import (
    Alert,
    Inputs,
    ModelUsed,
    Status,
    StepRun,
    StepStatus,
    Summary,
    night_folder,
    write_summary,
)
from training.registry.store import PublishedModel

Done = tuple[StepStatus, str]
"""What a step did, and its detail."""
HINT = "run m2m daily for that day"
GOES_ON = (ExitCode.OK, ExitCode.LABELS_FAILED)
"""Without an earlier day's labels tonight's drift and inputs can be looked at all the same."""


@dataclass(kw_only=True)
class Night:
    """One as-of day; every step goes by what is published, so that a second run does only what is left."""

    config: RunConfig
    arguments: Sequence[str]
    """``--config`` and ``--set``, for the jobs of the steps."""
    date: datetime.date
    features_published: bool
    """A Spark cluster publishes the features; they are only looked for."""
    with_promoted: bool
    """The promoted model forecasts, even where another one has forecast the day already."""
    keep: int
    """Descriptor of the day's lock, which the steps' processes hold too."""
    model: PublishedModel | None = None
    spec: str = ""
    """Location of the spec that features are built with and drift is measured from, chosen once with the model."""
    inputs: Inputs = field(default_factory=Inputs)
    alerts: tuple[Alert, ...] = ()
    steps: list[StepRun] = field(default_factory=list)

    def run(self) -> Summary:
        """Run the steps up to the first that fails, labels aside; the summary and the page are written in any case."""
        started = datetime.datetime.now(datetime.UTC)
        code = ExitCode.OK
        for name, step, failure in self._plan():
            if code not in GOES_ON:
                self.steps.append(StepRun(name=name, status="not run", seconds=0.0))
            elif not self._step(name, step):
                code = worst([code, failure])
        if code is ExitCode.OK and self.alerts:
            code = ExitCode.ALERT
        folder = night_folder(self.config.run.path("daily"), self.date)
        summary = self._summary(started, code)
        if not self._step("report", lambda: self._report(folder, summary)):
            code = worst([code, ExitCode.REPORT_FAILED])
        summary = self._summary(started, code)
        write_summary(folder, summary)
        return summary

    def _plan(self) -> list[tuple[str, Callable[[], Done], ExitCode]]:
        return [
            ("model", self._model, ExitCode.MODEL_FAILED),
            ("features", self._features, ExitCode.FEATURES_FAILED),
            ("predictions", self._predictions, ExitCode.PREDICTIONS_FAILED),
            ("lists", self._lists, ExitCode.LISTS_FAILED),
            ("checks", self._checks, ExitCode.CHECKS_FAILED),
            ("labels", self._labels, ExitCode.LABELS_FAILED),
            ("monitor", self._monitor, ExitCode.MONITOR_FAILED),
        ]

    def _step(self, name: str, step: Callable[[], Done]) -> bool:
        begun = time.monotonic()
        status: StepStatus
        try:
            status, detail = step()
        except UserError as error:
            status, detail = "failed", str(error)
        except Exception as error:  # whatever happens, the night leaves a summary
            traceback.print_exc()
            status, detail = "failed", f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        run = StepRun(name=name, status=status, seconds=round(time.monotonic() - begun, 1), detail=detail)
        self.steps.append(run)
        print(f"{self.date}  {name}: {status} in {run.seconds} s{': ' if detail else ''}{detail}", flush=True)
        return status != "failed"

    def _model(self) -> Done:
        predicted = None if self.with_promoted else self._published("predictions")
        self.model = self.config.forecasting_model(before=predicted.content["model_version"] if predicted else None)
        self.spec = self.config.spec_of(self.model)
        return "done", self.model.location

    def _features(self) -> Done:
        assert self.model is not None
        before = self._published("features")
        if not self.features_published:
            self._run("jobs.build_dataset", "--backfill", str(self.date), str(self.date), "--spec", self.spec)
        made = self._published("features", needed=True)
        assert made is not None
        same = before is not None and before.generation == made.generation
        return "skipped" if same else "done", f"{made.rows:,} rows, generation {made.generation}"

    def _predictions(self) -> Done:
        assert self.model is not None
        features, before = self._published("features", needed=True), self._published("predictions")
        assert features is not None
        wanted = {
            "features_generation": features.generation,
            "model_version": self.model.version,
            "precision": self.config.predict.precision,
        }
        if before is not None and all(before.content.get(key) == value for key, value in wanted.items()):
            return "skipped", f"{before.rows:,} rows, generation {before.generation}"
        self._run("jobs.predict", "--date", str(self.date), "--model", self.model.location)
        made = self._published("predictions", needed=True)
        assert made is not None
        if (other := made.content["model_version"]) != self.model.version:
            raise UserError(
                f"predictions must be of model {self.model.version}, which the night began with, however: {other} was "
                "published meanwhile; run the same command again"
            )
        return "done", f"{made.rows:,} rows, generation {made.generation}"

    def _lists(self) -> Done:
        made = self._published("predictions", needed=True)
        assert made is not None
        lists = self.config.run.path("lists")
        rules = self.config.engagement.lists
        current = [
            is_current(name, rule, date=self.date, predictions_generation=made.generation, lists=lists)
            for name, rule in rules.items()
        ]
        if not all(current):
            self._run("jobs.select_rewarded", "--date", str(self.date))
        return "skipped" if all(current) else "done", ", ".join(self._list(lists, name) for name in rules)

    def _list(self, lists: str, name: str) -> str:
        manifest = read_manifest(Folder.at(below(lists, name, f"dt={self.date}")), kind=LIST, build_hint=HINT)
        return f"{name} {manifest.rows:,} pairs"

    def _checks(self) -> Done:
        paths = {kind: self.config.run.path(kind) for kind in ("features", "predictions")}
        self.inputs, alerts = check_night(self.date, **paths, config=self.config.keeper)
        return "done", self._found(alerts)

    def _labels(self) -> Done:
        assert self.model is not None
        as_of = self.model.spec.matured_day(self.date)
        if self._published("predictions", as_of) is None:
            return "skipped", f"{as_of} was not predicted"
        before, features = self._published("labels", as_of), self._published("features", as_of)
        if self.features_published or (features is None and before is not None):
            kept = "not published" if before is None else f"{before.rows:,} rows, generation {before.generation}"
            return "skipped", f"{as_of}: {kept}"
        self._run("jobs.build_dataset", "--labels", str(as_of))
        made = self._published("labels", as_of, needed=True)
        assert made is not None
        same = before is not None and before.generation == made.generation
        return "skipped" if same else "done", f"{as_of}: {made.rows:,} rows, generation {made.generation}"

    def _monitor(self) -> Done:
        report = monitor_night(
            self.date,
            **{kind: self.config.run.path(kind) for kind in ("features", "predictions", "labels")},
            trained_on=self.spec,
            out=self.config.run.path("monitoring"),
            config=self.config.monitor,
            grace_seconds=self.config.predict.grace_seconds,
        )
        scored = report.scored
        matured = scored.missing or f"{scored.as_of}: {scored.scored:,} of {scored.predicted:,} predictions scored"
        return "done", f"{self._found(report.alerts)}; {matured}"

    def _found(self, alerts: Sequence[Alert]) -> str:
        for alert in alerts:
            print(f"{self.date}  alert {alert.check}: {alert.message}", flush=True)
        self.alerts = (*self.alerts, *alerts)
        return f"{len(alerts)} alerts" if alerts else "nothing found"

    def _report(self, folder: Folder, summary: Summary) -> Done:
        write_page(folder, self.config.run.name, summary)
        return "done", f"{folder.uri}/index.html"

    def _run(self, job: str, *arguments: str) -> None:
        run_module(job, [*self.arguments, *arguments], keep=self.keep)

    def _published(self, kind: str, date: datetime.date | None = None, *, needed: bool = False) -> Manifest | None:
        folder = Folder.at(below(self.config.run.path(kind), f"dt={date or self.date}"))
        if not needed and not folder.exists(MANIFEST):
            return None
        return read_manifest(folder, kind=kind, build_hint=HINT)

    def _summary(self, started: datetime.datetime, code: ExitCode) -> Summary:
        statuses: dict[ExitCode, Status] = {ExitCode.OK: "complete", ExitCode.ALERT: "alert"}
        model = self.model
        return Summary(
            date=self.date,
            started=started,
            finished=datetime.datetime.now(datetime.UTC),
            status=statuses.get(code, "failed"),
            exit_code=code,
            model=ModelUsed()
            if model is None
            else ModelUsed(version=model.version, fingerprint=model.spec.feature_fingerprint),
            steps=tuple(self.steps),
            inputs=self.inputs,
            alerts=self.alerts,
        )
