"""Versions never change, one pointer says which forecasts, and a worse model is not promoted unless forced."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs import registry as job
from jobs.config import RunConfig, run_job
from jobs.exit_codes import ExitCode
from m2m_model.contracts.drift import Histograms
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, publish
from m2m_model.zoo.registry import build_model
from tests.training.run_toml import write_run
from tests.training.tiny import MODEL, SPEC, publish_tables, random_table, same_rules
from training.checkpoint import load_model, publish_model, run_content
from training.config import TrainingConfig
from training.loop import LoopState, Snapshot
from training.registry.backtest import Verdict
from training.registry.store import Registry

REGISTRY = """
[registry]
location = "{out}/registry"
resamples = 200
"""
AT = datetime.datetime(2017, 4, 1, tzinfo=datetime.UTC)


def publish_seed(out: Path, seed: int, *, scale: float = 1.0, spec: DatasetSpec = SPEC) -> str:
    """Publish the run's model; a large ``scale`` of its point forecasts makes it a bad one. Its version."""
    torch.manual_seed(seed)
    snapshot = Snapshot(model=build_model(MODEL, spec).state_dict(), optimizer={}, state=LoopState(best_loss=1.0))
    content = run_content(MODEL, TrainingConfig(), dataset_generation="g")
    rules = same_rules(0.0, scale)
    return publish_model(
        str(out / "model"), snapshot=snapshot, spec=spec, content=content, rules=rules, grace_seconds=0
    ).generation


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run with a dataset of three test weeks."""
    write_run(tmp_path / "config.toml", out=tmp_path, more=REGISTRY.format(out=tmp_path))
    days = [datetime.date(2017, 3, 1) + datetime.timedelta(days=7 * week) for week in range(3)]
    tables = {
        f"test-{n}": (random_table(60, seed=n, day=day, labels=True), {"split": "test", "dt": str(day)})
        for n, day in enumerate(days)
    }
    histograms = Histograms(feature_fingerprint=SPEC.feature_fingerprint, newest_days=7, splits={})
    manifest = publish_tables(str(tmp_path / "dataset"), "dataset", tables, histograms=histograms)
    content = {"feature_fingerprint": SPEC.feature_fingerprint, "rows_by_scenario": {"test": {"a": 90, "b": 90}}}
    publish(Folder.at(tmp_path / "dataset"), manifest.model_copy(update={"content": content}))
    return tmp_path


def run(out: Path, *arguments: str) -> int:
    return run_job(lambda: job.main(["--config", str(out / "config.toml"), *arguments]))


def register(out: Path, seed: int, *, scale: float = 1.0) -> str:
    version = publish_seed(out, seed, scale=scale)
    assert run(out, "register", "--why", f"seed {seed}", "--by", "anna") == 0
    return version


def test_a_version_is_the_model_and_never_changes(out: Path) -> None:
    first = register(out, 1)
    registry = Registry(str(out / "registry"))
    before = {path: path.read_bytes() for path in (out / "registry").rglob("*") if path.is_file()}
    loaded, run_model = load_model(registry.version_location(first)), load_model(str(out / "model"))
    assert loaded.version == first
    pairs = zip(loaded.module.state_dict().values(), run_model.module.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    second = register(out, 2)
    assert run(out, "register", "--why", "again", "--by", "bert") == 0
    assert [version.version for version in registry.versions()] == sorted([first, second])
    assert registry.version(second).about["registered_by"] == "anna"
    assert {path: path.read_bytes() for path in before} == before
    spec = registry.version(first).spec_location
    assert Histograms.beside(spec, DatasetSpec.read(spec)) is not None


def test_the_promoted_version_forecasts(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = RunConfig.read(out / "config.toml")
    version = register(out, 1)
    with pytest.raises(UserError, match="no promoted model"):
        config.forecasting_model()
    assert run(out, "promote", version, "--why", "the first", "--by", "anna") == 0
    assert config.forecasting_model().version == version
    assert config.nightly_spec().startswith(str(out / "registry/versions"))
    publish_seed(out, 2)
    assert config.forecasting_model().version == version
    second = register(out, 2)
    assert config.forecasting_model(before=second).version == second, "a day stays with what forecast it"
    assert config.forecasting_model(before="20170101T000000-gone").version == version
    assert run(out, "promote", version, "--why", "again") == 0
    assert "is promoted already" in capsys.readouterr().out
    assert run(out, "promote", "nowhere", "--why", "x") == ExitCode.REFUSED
    assert run(out, "promote", "../model", "--why", "x") == ExitCode.REFUSED
    other = RunConfig.read(out / "config.toml", ["registry.location="])
    assert other.forecasting_model().location == str(out / "model")


def test_a_promotion_meanwhile_is_not_overruled(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (register(out, seed, scale=0.5) for seed in (1, 2, 3))
    assert run(out, "promote", first, "--why", "the first") == 0
    compared = job._compare

    def meanwhile(*arguments: Any) -> Verdict:
        monkeypatch.setattr(job, "_compare", compared)
        assert run(out, "promote", third, "--why", "by hand", "--force") == 0
        return compared(*arguments)

    monkeypatch.setattr(job, "_compare", meanwhile)
    assert run(out, "promote", second, "--why", "retrained", "--force") == ExitCode.REFUSED
    registry = Registry(str(out / "registry"))
    assert registry.promoted().version == third
    assert [decision.version for decision in registry.decisions()] == [first, third]
    (out / "registry/promotions/20991231T000000.000000-x.json").write_text("")
    assert run(out, "list") == ExitCode.REFUSED


def test_a_worse_model_is_refused_with_its_interval_and_force_is_recorded(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = register(out, 1, scale=0.5), register(out, 1, scale=20.0)
    assert run(out, "promote", good, "--why", "the first") == 0
    assert run(out, "promote", bad, "--why", "a try", "--by", "bert") == ExitCode.WORSE
    said = capsys.readouterr()
    assert "95% interval [+" in said.out
    assert f"{bad} is worse and was not promoted" in said.err
    registry = Registry(str(out / "registry"))
    assert registry.promoted().version == good
    assert run(out, "promote", bad, "--why", "a demonstration", "--force", "--by", "bert") == 0
    assert registry.promoted().version == bad
    assert [(d.promoted, d.forced, d.previous) for d in registry.decisions()] == [
        (True, False, ""),
        (False, False, good),
        (True, True, good),
    ]
    assert registry.decision() == registry.decisions()[-1]
    evidence = registry.decisions()[-1].evidence
    assert evidence["low"] <= evidence["difference"] <= evidence["high"]
    assert evidence["low"] > 0
    assert (evidence["weeks"], evidence["origins"]) == (3, 3)
    assert run(out, "promote", good, "--why", "back") == 0
    assert not registry.decisions()[-1].forced
    capsys.readouterr()
    assert run(out, "list", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert (listed["promoted"], len(listed["versions"]), len(listed["decisions"])) == (good, 2, 4)
    assert run(out, "list") == 0
    assert "forced" in capsys.readouterr().out


def test_a_tolerance_lets_a_little_pass(out: Path) -> None:
    good, bad = register(out, 1, scale=0.5), register(out, 1, scale=20.0)
    assert run(out, "promote", good, "--why", "the first") == 0
    assert run(out, "--set", "registry.tolerance=1e6", "promote", bad, "--why", "a try") == 0


def test_without_a_registry_or_with_a_damaged_model_nothing_happens(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(out, "--set", "registry.location=", "list") == ExitCode.REFUSED
    assert "[registry] location" in capsys.readouterr().err
    publish_seed(out, 1)
    weights = next((out / "model").rglob("model.pt"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert run(out, "register", "--why", "x") == ExitCode.REFUSED
    assert "another checksum" in capsys.readouterr().err
    assert not Registry(str(out / "registry")).versions()
