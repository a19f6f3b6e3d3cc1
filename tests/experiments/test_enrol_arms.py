"""Whole arms: everybody is dealt before anything is selected, each arm's model selects within it at equal budget."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from m2m_model.contracts.store import Folder, read_manifest
from tests.experiments.published import DAY, NEXT, Platform

MANY = range(60)
ARMS = ("current", "challenger")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = Platform.at(tmp_path)
    made.publish_day(MANY)
    return made


def forecasts(platform: Platform, folder: str) -> dict[tuple[str, str], float]:
    location = platform.out / folder / f"dt={DAY}"
    manifest = read_manifest(Folder.at(location), kind="predictions", build_hint="")
    (entry,) = [entry for entry in manifest.files if entry.path.endswith(".parquet")]
    rows = pq.read_table(location / entry.path, partitioning=None).to_pylist()
    return {(row["advertiser_id"], row["scenario_id"]): row["days_mean"] for row in rows}


def test_everybody_is_in_an_arm_whoever_is_selected(platform: Platform) -> None:
    assert platform.enrol("better") == 0
    arms = platform.arms("better")
    assert set(arms) == {str(number) for number in MANY}
    assert [list(arms.values()).count(arm) for arm in ARMS] == [30, 30]


def test_each_model_selects_in_its_arm_with_half_the_budget(platform: Platform) -> None:
    platform.enrol("better")
    arms = platform.arms("better")
    for arm, folder in zip(ARMS, ("predictions", "challenger"), strict=True):
        predicted = forecasts(platform, folder)
        listed = platform.listed("better", arm)
        for scenario in "ab":
            candidates = [
                (predicted[advertiser, scenario], advertiser)
                for advertiser in arms
                if arms[advertiser] == arm and (scenario == "a" or int(advertiser) % 2 == 0)
            ]
            chosen = [row["advertiser_id"] for row in listed if row["scenario_id"] == scenario]
            assert chosen == [advertiser for _, advertiser in sorted(candidates)[:10]]
        assert {row["model_version"] for row in listed} == {folder}


def test_the_same_day_again_changes_nothing(platform: Platform) -> None:
    platform.enrol("better")
    before = platform.published("better")
    assert len(before) == 3
    assert platform.enrol("better") == 0
    assert platform.published("better") == before


def test_newcomers_are_dealt_and_nobody_moves(platform: Platform) -> None:
    platform.enrol("better")
    first = platform.arms("better")
    platform.publish_day(range(30, 100), NEXT)
    assert platform.enrol("better", NEXT) == 0
    later = platform.arms("better")
    assert set(later) == {str(number) for number in range(100)}
    assert {advertiser: later[advertiser] for advertiser in first} == first
    for arm in ARMS:
        assert {later[row["advertiser_id"]] for row in platform.listed("better", arm, NEXT)} == {arm}
    before = platform.published("better")
    assert platform.enrol("better") == platform.enrol("better", NEXT) == 0
    assert platform.published("better") == before


def test_predictions_made_again_are_selected_from_again(platform: Platform) -> None:
    platform.enrol("better")
    before = platform.published("better")
    rows = platform.rows(MANY, DAY, labels=False)
    platform.publish_predictions(rows, {"days": [1.0] * 120, "units": [1.0] * 120}, to="challenger")
    assert platform.enrol("better") == 0
    changed = {
        Path(path).parent.parent.name for path, text in platform.published("better").items() if text != before[path]
    }
    assert changed == {"challenger"}


def test_an_arm_without_predictions_is_named(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    (platform.out / f"challenger/dt={DAY}/manifest.json").unlink()
    assert platform.enrol("better") == 2
    assert "predict the day for arm challenger first" in capsys.readouterr().err
    arms = platform.arms("better")
    platform.publish_predictions(
        platform.rows(MANY, DAY, labels=False), {"days": [1.0] * 120, "units": [1.0] * 120}, to="challenger"
    )
    assert platform.enrol("better") == 0
    assert platform.arms("better") == arms, "who was dealt already stays"
    assert platform.listed("better", "challenger")
