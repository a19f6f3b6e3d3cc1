from pathlib import Path

import pytest

from jobs.config import RunConfig
from m2m_model.contracts.errors import UserError

MINIMAL = """
[run]
name = "r"
out = "out/r"
[raw]
first_day = 2020-01-01
last_day = 2020-12-31
[raw.facts.performance]
[features.performance]
clicks = { expr = "sum(clicks)", scope = "own" }
[tasks]
clicks = { expr = "sum(clicks)", unit = "clicks" }
"""


def read(tmp_path: Path, text: str, *overrides: str) -> RunConfig:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return RunConfig.read(path, overrides)


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert (config.sequence.length, config.sequence.horizon) == (40, 7)
    assert (config.train.batch_size, config.train.betas, config.train.learning_rate) == (256, (0.9, 0.998), 2e-3)
    assert (config.model.view_dim, config.model.knowledge_dim, config.model.meta_layers) == (256, 64, 3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"unknown key 'train.epoch' \(did you mean 'train.epochs'\?\)"),
        ("sequnce.length=3", r"unknown key 'sequnce' \(did you mean 'sequence'\?\)"),
        ("features.performance.clicks.scop=1", r"did you mean 'features.performance.clicks.scope'"),
        ("train.epochs=0", r"train.epochs: .*greater than or equal to 1"),
        ("tasks.clicks.table=sales", r"table 'sales' is used but raw.facts has only \['performance'\]"),
        ("run.name.x=1", r"'name' is a value, not a section"),
        ("nonsense", r"--set must be section.key=value"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, MINIMAL, override)


def test_overrides_take_toml_values_and_bare_strings(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL, "train.epochs=2", "run.out=s3://bucket/run", "raw.last_day=2021-01-31")
    assert config.train.epochs == 2
    assert config.run.path("raw") == "s3://bucket/run/raw"
    assert config.raw.last_day.year == 2021


def test_missing_file_and_bad_toml(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: pass --config"):
        RunConfig.read(tmp_path / "absent.toml")
    with pytest.raises(UserError, match="not valid TOML"):
        read(tmp_path, "[run")
