"""``[experiments.NAME]``: what is refused, and what the message says."""

import re
from pathlib import Path

import pytest

from jobs.config import RunConfig
from m2m_model.contracts.errors import UserError
from tests.experiments.published import Platform
from tests.guides import ROOT
from tests.training.run_toml import write_run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["experiments.spring.salz=x"],
            r"unknown key 'experiments\.spring\.salz' \(did you mean 'experiments\.spring\.salt'",
        ),
        (
            ["experiments.spring.list=best"],
            r"experiments\.spring\.list must be one of \['fading'\] of \[engagement\.lists\]",
        ),
        (["experiments.spring.design=both"], r"experiments\.spring\.design: Input should be 'holdout' or 'arms'"),
        (["experiments.spring.last=2017-02-01"], r"first 2017-03-01 must not lie after last 2017-02-01"),
        (["experiments.spring.first=20170301"], r"must be a date like"),
        (["experiments.spring.cap=0"], r"experiments\.spring\.cap: Input should be greater than 0"),
        (["experiments.spring.salt="], r"experiments\.spring\.salt"),
        (
            ['experiments.spring.arms=[{ name = "a" }]'],
            r"arms must be two or more of different names, however: \['a'\]",
        ),
        (['experiments.spring.arms=[{ name = "a" }, { name = "a" }]'], r"different names"),
        (['experiments.spring.arms=[{ name = "a" }, { name = "../b" }]'], r"arms\.1\.name"),
        (['experiments.spring.arms=[{ name = "a" }, { name = "b", share = 0 }]'], r"arms\.1\.share"),
        (['experiments.spring.arms=[{ name = "a" }, { name = "b", predictions = "x" }]'], r'are for design "arms"'),
        (["experiments.spring.design=arms"], r'design "arms" needs arms = \['),
        (["experiments.Spring.design=arms"], r"experiments\.Spring"),
        (
            ['experiments.better.arms=[{ name = "a" }, { name = "b", predictions = "s3://k:v@b/p" }]'],
            r"must not carry credentials",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, overrides: list[str], message: str) -> None:
    platform = Platform.at(tmp_path)
    with pytest.raises(UserError, match=message):
        RunConfig.read(platform.out / "config.toml", overrides)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    platform = Platform.at(tmp_path)
    path = platform.out / "config.toml"
    path.write_text(path.read_text().replace("cap = 12.0\n", "", 1))
    with pytest.raises(UserError, match=r"missing key 'experiments\.spring\.cap'"):
        RunConfig.read(path)


def test_the_guides_examples_are_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", (ROOT / "docs/experiments.md").read_text(), re.MULTILINE | re.DOTALL)
    config = RunConfig.read(write_run(tmp_path / "config.toml", out=tmp_path, more="\n".join(blocks)))
    assert {name: experiment.design for name, experiment in config.experiments.items()} == {
        "spring": "holdout",
        "better": "arms",
    }
