"""``m2m``: the jobs' own ``main`` under one name."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from jobs import cli
from jobs.config import run_job
from tests.guides import ROOT


def test_every_verb_is_a_job_and_every_job_has_a_verb() -> None:
    for module in cli.MODULES.values():
        assert callable(importlib.import_module(module).main)
    jobs = {f"jobs.{path.stem}" for path in Path(ROOT, "jobs").glob("*.py") if "argument_parser(" in path.read_text()}
    assert jobs - {"jobs.config"} - set(cli.MODULES.values()) <= {"jobs.plot_synthetic"}


def test_the_entry_point_is_there() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["m2m"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_help_lists_the_verbs_by_what_they_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "A run, in this order:" in said
    assert all(f"  {verb} " in said for verb in cli.MODULES)


def test_a_verbs_help_names_it_as_it_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: m2m report ")


def test_an_unknown_verb_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda: cli.main(["evalute"])) == 2
    assert capsys.readouterr().err.startswith("error: there is no verb 'evalute' (did you mean 'evaluate'?)")


def test_errors_of_a_job_are_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_job(lambda: cli.main(["report", "--config", str(tmp_path / "no.toml")])) == 2
    assert "does not exist" in capsys.readouterr().err


def test_what_an_error_tells_to_run_is_a_verb() -> None:
    sources = [path for folder in ("etl", "training", "m2m_model", "jobs") for path in (ROOT / folder).rglob("*.py")]
    told = {verb for path in sources for verb in re.findall(r"\b(?:run|with|next:) m2m ([\w-]+)", path.read_text())}
    assert {"build", "train", "registry"} <= told <= set(cli.MODULES)
