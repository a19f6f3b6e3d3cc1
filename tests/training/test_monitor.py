"""The monitor: its sums against loops, what it publishes, what it calls an alert, whom it tells."""

import datetime
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs import monitor
from jobs.config import run_job
from m2m_model.contracts.drift import Histograms, feature_sizes
from m2m_model.contracts.schema import FORECASTS, KEYS, QUANTILES, dataset_schema, prediction_schema
from m2m_model.contracts.store import Folder, Manifest, publish, read_manifest
from tests.training.run_toml import NO_GRACE, write_run
from tests.training.tiny import SPEC, publish_tables, random_table
from training.baselines.naive import last_7_days, mean_28_days
from training.monitor import webhook
from training.monitor.calibration import LEVELS, probability_bins
from training.monitor.report import MonitorReport
from training.monitor.webhook import ADDRESS, TOKEN

AS_OF = datetime.date(2017, 3, 1)
NIGHT = AS_OF + datetime.timedelta(days=SPEC.horizon)
ROWS = 150
TOKEN_VALUE = "not-to-be-seen"


@dataclass
class Day:
    """A run with one matured day, and the tables it was published from."""

    out: Path
    features: pa.Table
    predictions: pa.Table
    labelled: pa.Table

    def publish(self) -> None:
        self._features(AS_OF, self.features)
        self._features(NIGHT, random_table(ROWS, seed=9, day=NIGHT, labels=False))
        made = read_manifest(Folder.at(self.out / f"features/dt={AS_OF}"), kind="features", build_hint="")
        self._publish("predictions", self.predictions, {"features_generation": made.generation, "model_version": "m-1"})
        self._publish("labels", self.labelled.take(np.random.default_rng(0).permutation(len(self.labelled))), {})

    def _features(self, date: datetime.date, table: pa.Table) -> None:
        sizes = feature_sizes(SPEC)
        counts = {name: (5,) * size for name, size in sizes.items()}
        if date == NIGHT:
            counts["profile.size"] = (0, 0, 0, 99)
        found = Histograms(feature_fingerprint=SPEC.feature_fingerprint, newest_days=7, splits={"features": counts})
        location = str(self.out / f"features/dt={date}")
        manifest = publish_tables(location, "features", {"part-0": (table, {"dt": str(date)})}, histograms=found)
        rows = {scenario: table["scenario_id"].to_pylist().count(scenario) for scenario in SPEC.scenarios}
        content = {
            "rows_by_scenario": {"features": rows},
            "inputs": {key: {str(AS_OF): "1 files"} for key in ("performance", "profile")},
        }
        weekdays = [str(date - datetime.timedelta(weeks=week)) for week in range(4)]
        content["rows_by_day"] = {"performance": dict(zip(weekdays, (30, 90, 110, 100), strict=True))}
        publish(Folder.at(location), manifest.model_copy(update={"content": content}))

    def _publish(self, kind: str, table: pa.Table, content: dict[str, str]) -> Manifest:
        location = str(self.out / f"{kind}/dt={AS_OF}")
        manifest = publish_tables(location, kind, {"part-0": (table, {"dt": str(AS_OF)})})
        content = {"feature_fingerprint": SPEC.feature_fingerprint, **content}
        manifest = manifest.model_copy(update={"content": content})
        publish(Folder.at(location), manifest)
        return manifest

    def run(self, *settings: str, date: datetime.date = NIGHT) -> int:
        words = [word for setting in settings for word in ("--set", setting)]
        arguments = ["--config", str(self.out / "config.toml"), "--date", str(date), *words]
        return run_job(lambda: monitor.main(arguments))

    @property
    def manifest(self) -> Manifest:
        return read_manifest(Folder.at(self.out / f"monitoring/dt={NIGHT}"), kind="monitoring", build_hint="")

    def report(self) -> MonitorReport:
        folder = Folder.at(self.out / f"monitoring/dt={NIGHT}")
        (entry,) = self.manifest.select(role="report")
        return MonitorReport.model_validate_json(folder.read_bytes(entry.path))

    def table(self, role: str) -> list[dict[str, object]]:
        folder = Folder.at(self.out / f"monitoring/dt={NIGHT}")
        (entry,) = self.manifest.select(role=role)
        rows: list[dict[str, object]] = pq.read_table(folder.join(entry.path), partitioning=None).to_pylist()
        return rows


@pytest.fixture
def day(tmp_path: Path) -> Day:
    return make_day(tmp_path)


def make_day(folder: Path) -> Day:
    """Publish a run below ``folder`` whose forecasts lie within a tenth of what came."""
    write_run(folder / "config.toml", out=folder, more=NO_GRACE)
    labelled = random_table(ROWS, seed=1, day=AS_OF, labels=True)
    features = labelled.select(dataset_schema(SPEC, labels=False).names)
    random = np.random.default_rng(3)
    columns = {key: features[key] for key in KEYS}
    for task in SPEC.task_names:
        truth = labelled[f"label_{task}"].to_numpy()
        for forecast in FORECASTS:
            columns[f"{task}_{forecast}"] = pa.array(truth * random.uniform(0.9, 1.1, ROWS))
        spread = np.sort(random.poisson(3.0, (ROWS, len(QUANTILES))), axis=1).astype(float)
        columns |= {f"{task}_{name}": pa.array(c) for name, c in zip(QUANTILES, spread.T, strict=True)}
    columns["model_version"] = pa.array(["m-1"] * ROWS)
    columns["feature_fingerprint"] = pa.array([SPEC.feature_fingerprint] * ROWS)
    predictions = pa.table(columns).select(prediction_schema(SPEC, quantiles=True).names)
    made = Day(folder, features, predictions, labelled)
    trained = {"train": {name: (5,) * size for name, size in feature_sizes(SPEC).items()}}
    trained["train"]["scenario.share"] = (5, 5, 0, 5)
    histograms = Histograms(feature_fingerprint=SPEC.feature_fingerprint, newest_days=7, splits=trained)
    publish_tables(str(folder / "dataset"), "dataset", {}, histograms=histograms)
    made.publish()
    return made


def test_scores_are_those_of_a_loop_over_rows(day: Day) -> None:
    """Labels come shuffled; model and naive forecasts, per cell, with bias."""
    day.run()
    rows = day.labelled.to_pylist()
    predicted = day.predictions.to_pylist()
    histories = np.array([[row[f"history_{task}"] for task in SPEC.task_names] for row in rows])
    naive = {"last_7_days": last_7_days(histories, SPEC), "mean_28_days": mean_28_days(histories, SPEC)}
    found = {
        (row["model"], row["forecast"], row["scenario"], row["task"]): row
        for row in day.table("scores")
        if row["segment"] == "eligible"
    }
    for position, task in enumerate(SPEC.task_names):
        for scenario in SPEC.scenarios:
            chosen = [i for i, row in enumerate(rows) if row["eligible"] and row["scenario_id"] == scenario]
            truth = sum(rows[i][f"label_{task}"] for i in chosen)
            errors = sum(abs(predicted[i][f"{task}_point"] - rows[i][f"label_{task}"]) for i in chosen)
            assert found["model", "point", scenario, task]["nmae"] == pytest.approx(errors / truth)
            means = sum(predicted[i][f"{task}_mean"] for i in chosen)
            assert found["model", "mean", scenario, task]["bias"] == pytest.approx(means / truth - 1)
            for name, values in naive.items():
                errors = sum(abs(values[i, position] - rows[i][f"label_{task}"]) for i in chosen)
                assert found[name, "raw", scenario, task]["nmae"] == pytest.approx(errors / truth)
            for name, level in QUANTILES.items():
                share = np.mean([rows[i][f"label_{task}"] <= predicted[i][f"{task}_{name}"] for i in chosen])
                (line,) = (
                    line
                    for line in day.table("coverage")
                    if (line["segment"], line["scenario"], line["task"]) == ("eligible", scenario, task)
                    and line["level"] == level
                )
                assert line["share"] == pytest.approx(share)


def test_the_transform_is_uniform_for_a_calibrated_forecast_of_counts() -> None:
    """Poisson labels and the quantiles of their own distribution, many zeros: every level holds within the spread."""
    random = np.random.default_rng(0)
    rates = random.gamma(1.0, 2.0, 40_000)
    draws = np.sort(random.poisson(rates[:, None], (len(rates), 400)), axis=1)
    quantiles = np.stack([draws[:, int(level * 400)] for level in LEVELS], axis=1).astype(float)
    labels = random.poisson(rates).astype(float)
    shares = probability_bins(quantiles[:, None, :], labels[:, None]).mean(axis=0)[0, :-1].cumsum()
    assert shares == pytest.approx(LEVELS, abs=0.06)
    plain = (labels[:, None] <= quantiles).mean(axis=0)
    assert plain[0] > 0.25, "at or below: useless where a quarter of the labels are zeros"
    wrong = probability_bins(2 * quantiles[:, None, :] + 1, labels[:, None]).mean(axis=0)[0, :-1].cumsum()
    assert np.abs(wrong - LEVELS).max() > 0.25


def test_alerts_name_what_is_beyond_its_threshold(day: Day, capsys: pytest.CaptureFixture[str]) -> None:
    calm = [f"monitor.{key}=9.0" for key in ("nmae_over_naive", "smape_over_naive", "bias", "psi")]
    calm += ["monitor.unseen=1.0", "monitor.table_rows=[0, 9]"]
    calm += ["monitor.calibration=1.0", "monitor.activity=[0, 9]", "monitor.scenario_rows=[0, 9]"]
    assert day.run(*calm, "monitor.days_behind=7") == 0
    assert day.report().alerts == ()
    assert day.run(*calm) == 4
    (alert,) = day.report().alerts
    assert (alert.check, alert.value, alert.threshold) == ("days_behind.performance", 7, 1)
    assert "alert days_behind.performance" in capsys.readouterr().out
    assert day.run(*calm, "monitor.days_behind=7", "monitor.snapshot_days_behind=6") == 4
    assert [alert.check for alert in day.report().alerts] == ["days_behind.profile"]
    assert day.run(*calm, "monitor.days_behind=7", "monitor.psi=0.25") == 4
    assert "profile.size" in day.report().alerts[0].message
    assert day.run(*calm, "monitor.days_behind=7", "monitor.bias=0.0000001") == 4
    assert {alert.check for alert in day.report().alerts} == {"bias.units", "bias.days"}
    assert day.run(*calm, "monitor.days_behind=7", "monitor.nmae_over_naive=0.0001") == 4
    assert [alert.check for alert in day.report().alerts] == ["nmae_over_naive"]
    assert day.run(*calm, "monitor.days_behind=7", "monitor.calibration=0.0001") == 4
    assert {alert.check for alert in day.report().alerts} == {"calibration.units", "calibration.days"}
    assert day.run(*calm[:4], *calm[6:], "monitor.days_behind=7") == 4
    assert {alert.check for alert in day.report().alerts} == {"unseen.scenario.share", "table_rows.performance"}
    assert f"30 rows of {NIGHT}, 100 are usual" in day.report().alerts[-1].message
    busy = "monitor.activity=[0, 0.001]"
    assert day.run(*calm, "monitor.days_behind=7", busy, "monitor.min_rows=10") == 4
    assert {alert.check.partition(".")[0] for alert in day.report().alerts} == {"activity"}
    assert day.run(*calm, "monitor.days_behind=7", busy, f"monitor.min_rows={ROWS + 1}") == 0, "too few to say"
    assert day.run("monitor.biass=1") == 2
    assert "did you mean 'monitor.bias'?" in capsys.readouterr().err


def test_what_is_not_published_is_an_alert_and_the_rest_is_said(day: Day) -> None:
    later = NIGHT + datetime.timedelta(days=1)
    assert day.run(date=later) == 4
    report = MonitorReport.model_validate_json((day.out / f"monitoring/dt={later}/monitor.json").read_text())
    missing = "2017-03-02 has no published features and no predictions and no labels"
    assert report.scored.missing == missing
    assert {alert.check for alert in report.alerts} == {"scored", "drift"}
    first = NIGHT - datetime.timedelta(days=1)
    assert day.run(date=first) == 4
    report = MonitorReport.model_validate_json((day.out / f"monitoring/dt={first}/monitor.json").read_text())
    assert not report.scored.due
    assert {alert.check for alert in report.alerts} == {"drift"}, "nobody waits for days before the first predicted"
    (day.out / f"labels/dt={AS_OF}/manifest.json").unlink()
    assert day.run() == 4
    assert day.report().scored.missing.endswith("run m2m build --labels 2017-03-01")
    assert day.report().drift.psi["profile.size"]


def test_predictions_without_labels_are_counted(day: Day) -> None:
    """Nobody vanishes: those that the labels lack are said, and an alert where they are many."""
    day.labelled = day.labelled.slice(15)
    day.publish()
    assert day.run() == 4
    report = day.report()
    assert (report.scored.predicted, report.scored.scored) == (ROWS, ROWS - 15)
    assert "unmatched" in {alert.check for alert in report.alerts}


def test_a_rerun_replaces_the_night_and_a_kill_leaves_it(day: Day) -> None:
    day.run()
    before = day.manifest
    code = (
        "import os, signal, sys, training.monitor.publish as p; "
        "p.publish = lambda *a: os.kill(os.getpid(), signal.SIGKILL); "
        "from jobs.monitor import main; main(sys.argv[1:])"
    )
    arguments = ["--config", str(day.out / "config.toml"), "--date", str(NIGHT)]
    killed = subprocess.run([sys.executable, "-c", code, *arguments], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    assert day.manifest == before
    day.run()
    assert day.manifest.generation != before.generation
    assert len(list((day.out / f"monitoring/dt={NIGHT}/data").iterdir())) == 1


@dataclass
class Ears:
    """A real server that keeps what it is told."""

    status: int = 200
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def ears() -> Iterator[Ears]:
    told = Ears()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.heard.append((dict(self.headers), body))
            self.send_response(told.status)
            self.send_header("Location", told.address + "elsewhere")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    told.address = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_day_that_cannot_be_scored_is_an_alert_beside_drift_and_inputs(day: Day) -> None:
    day._features(AS_OF, day.features)
    assert day.run() == 4
    report = day.report()
    assert "predict the day again" in report.scored.missing
    assert {"scored", "drift", "days_behind.performance"} <= {alert.check for alert in report.alerts}
    assert report.drift.psi


def test_few_rows_are_counted_once_whatever_the_tasks(day: Day) -> None:
    assert day.run() == 4
    rows = {row.rows for row in day.report().scored.overall}
    assert max(rows) == sum(day.features["eligible"].to_pylist())


def test_a_vanished_scenario_and_a_dead_feed_are_alerts(day: Day) -> None:
    before = NIGHT - datetime.timedelta(days=1)
    day._features(before, random_table(ROWS, seed=8, day=before, labels=False))
    gone, left = SPEC.scenarios[:2]
    table = random_table(ROWS, seed=9, day=NIGHT, labels=False)
    day._features(NIGHT, table.filter(pc.not_equal(table["scenario_id"], gone)))
    folder = Folder.at(day.out / f"features/dt={NIGHT}")
    made = read_manifest(folder, kind="features", build_hint="")
    inputs = {"performance": {}, "profile": {}, "scenarios": {"all": "1 files"}}
    publish(folder, made.model_copy(update={"content": made.content | {"inputs": inputs}}))
    assert day.run("monitor.snapshot_days_behind=3") == 4
    found = {alert.check: alert.value for alert in day.report().alerts}
    assert found[f"scenario_rows.{gone}"] == 0
    assert found["days_behind.performance"] == found["days_behind.profile"] == "no files"
    assert f"scenario_rows.{left}" not in found
    assert "days_behind.scenarios" not in found


def test_the_webhook_hears_alerts_and_nobody_hears_its_secrets(
    day: Day, ears: Ears, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ADDRESS, ears.address + "secret-path")
    monkeypatch.setenv(TOKEN, TOKEN_VALUE)
    assert day.run() == 4
    ((headers, body),) = ears.heard
    assert headers["Authorization"] == f"Bearer {TOKEN_VALUE}"
    assert (
        json.loads(body)["alerts"]
        == json.loads((day.out / f"monitoring/dt={NIGHT}/monitor.json").read_text())["alerts"]
    )
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))
    heard = 1
    for status, attempts in {500: 3, 404: 1, 302: 1}.items():
        ears.status = status
        assert day.run() == 4, "a deaf webhook changes nothing"
        heard += attempts
        assert len(ears.heard) == heard, "who is busy is asked again, and a redirect is not followed"
    said = "".join(capfd.readouterr())
    assert "the webhook was not told: it answered 500" in said
    written = b"".join(path.read_bytes() for path in day.out.rglob("*") if path.is_file())
    assert not any(word.encode() in written or word in said for word in (TOKEN_VALUE, "secret-path"))


def test_a_webhook_that_is_not_there_and_one_that_is_no_address(
    day: Day, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webhook, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9/secret-path")
    assert day.run() == 4
    assert "was not told: URLError" in capsys.readouterr().err
    monkeypatch.setenv(ADDRESS, "file:///secret-path")
    assert day.run() == 2
    assert "secret-path" not in capsys.readouterr().err
