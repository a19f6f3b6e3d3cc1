"""A holdout on published lists: who is dealt, what is published, what stays."""

import datetime
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import select_rewarded
from jobs.config import RunConfig
from m2m_model.contracts.store import Folder, read_manifest
from tests.experiments.published import DAY, NEXT, SPEC, Platform, with_columns
from training.engagement.day import PredictedDay
from training.experiments.config import ExperimentConfig
from training.experiments.units import day_units
from training.nightly.lock import locked

MANY = range(60)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = Platform.at(tmp_path)
    made.publish_day(MANY)
    return made


def test_the_days_list_is_dealt_evenly_and_split(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    assert platform.enrol("spring") == 0
    listed = platform.table(f"lists/fading/dt={DAY}", "list")
    assignment = platform.assignment("spring")
    assert set(assignment) == set(listed["advertiser_id"].to_pylist())
    for stratum in {row["stratum"] for row in assignment.values()}:
        counted = Counter(row["arm"] for row in assignment.values() if row["stratum"] == stratum)
        assert abs(counted["holdout"] - counted["incentive"]) <= 1
    lists = {arm: platform.listed("spring", arm) for arm in ("holdout", "incentive")}
    assert sum(map(len, lists.values())) == len(listed)
    for arm, rows in lists.items():
        assert {assignment[row["advertiser_id"]]["arm"] for row in rows} == {arm}
        assert all(row in listed.to_pylist() for row in rows)
    said = capsys.readouterr().out
    assert f"spring {DAY}: {len(assignment)} newcomers, {len(assignment)} in all: holdout " in said
    assert "sample ratio: p = " in said
    assert "as dealt" in said
    assert "active rate, incentive: finds an effect of 0." in said
    assert "ARPU, incentive: finds an effect of" in said


def test_the_same_day_again_changes_nothing(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    platform.enrol("spring")
    before = platform.published("spring")
    assert len(before) == 3
    capsys.readouterr()
    assert platform.enrol("spring") == 0
    assert platform.published("spring") == before
    assert f"spring {DAY}: 0 newcomers" in capsys.readouterr().out


def test_newcomers_are_added_and_nobody_moves(platform: Platform) -> None:
    platform.enrol("spring")
    first = platform.assignment("spring")
    platform.publish_day(range(30, 90), NEXT)
    assert platform.enrol("spring", NEXT) == 0
    later = platform.assignment("spring")
    assert {advertiser: later[advertiser] for advertiser in first} == first
    new = set(later) - set(first)
    assert new
    assert {later[advertiser]["enrolled"] for advertiser in new} == {NEXT}
    listed = platform.table(f"lists/fading/dt={NEXT}", "list")["advertiser_id"].to_pylist()
    for arm in ("holdout", "incentive"):
        mine = [row["advertiser_id"] for row in platform.listed("spring", arm, NEXT)]
        assert mine == [advertiser for advertiser in listed if later[advertiser]["arm"] == arm]
    before = platform.published("spring")
    assert platform.enrol("spring") == platform.enrol("spring", NEXT) == 0
    assert platform.published("spring") == before, "earlier days again change nothing, too"


def test_a_list_selected_again_is_dealt_again(platform: Platform) -> None:
    platform.enrol("spring")
    first = platform.arms("spring")
    rows = platform.rows(MANY, DAY, labels=False)
    platform.publish_predictions(rows, {"days": [float(number) for number in range(120)], "units": [1.0] * 120})
    assert platform.enrol("spring") == 2, "the list is of other predictions"
    platform.run(select_rewarded, "--date", str(DAY))
    assert platform.enrol("spring") == 0
    arms = platform.arms("spring")
    assert {advertiser: arms[advertiser] for advertiser in first} == first
    dealt = [row["advertiser_id"] for arm in ("holdout", "incentive") for row in platform.listed("spring", arm)]
    listed = platform.table(f"lists/fading/dt={DAY}", "list")["advertiser_id"].to_pylist()
    assert sorted(dealt) == sorted(listed)
    assert set(listed) <= set(arms)


def test_a_plan_publishes_nothing(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    assert platform.enrol("spring", DAY, "--plan") == 0
    assert "with a chance of 80 %" in capsys.readouterr().out
    assert platform.enrol("spring", DAY, "--plan", "--set", f"experiments.spring.first={NEXT}") == 0
    assert platform.published("spring") == {}
    assert not (platform.out / "experiments").exists()


def test_an_empty_list_enrols_nobody(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = ("--set", "engagement.lists.fading.budget=0")
    platform.run(select_rewarded, "--date", str(DAY), *nobody)
    assert platform.enrol("spring", DAY, *nobody) == 0
    assert "0 newcomers, 0 in all: holdout 0, incentive 0" in capsys.readouterr().out
    assert platform.listed("spring", "incentive") == []
    assert platform.read("spring") == 2


def test_who_holds_the_experiment_is_waited_for(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(str(platform.out / "experiments/spring")):
        assert platform.enrol("spring") == 5
    assert "wait for that process" in capsys.readouterr().err


def test_refusals_say_the_way_out(platform: Platform, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str, name: str = "spring", date: datetime.date = DAY) -> str:
        assert platform.enrol(name, date, *arguments) == 2
        return capsys.readouterr().err

    assert "--experiment must be one of ['better', 'spring']" in refused(name="summer")
    after = NEXT + datetime.timedelta(days=1)
    assert f"must lie in experiments.spring, from {DAY} to {NEXT}, however: {after}" in refused(date=after)
    assert "run m2m select --date D first" in refused(date=NEXT)
    assert "one of ['days'], however: 'units'" in refused("--set", "experiments.spring.active=units")
    assert "one of ['units', 'days'], however: 'sales'" in refused("--set", "experiments.spring.spend=sales")
    assert platform.read("spring") == 2
    assert "nobody is enrolled in experiments.spring: run m2m enrol" in capsys.readouterr().err
    platform.publish_day(range(50, 70), NEXT)
    assert platform.enrol("spring", NEXT) == 0
    assert f"days are enrolled in order: {NEXT} is" in refused()
    said = refused("--set", "experiments.spring.salt=other", date=NEXT)
    assert "experiments.spring.salt must stay 'spring'" in said
    assert "another experiment under another name" in said
    assert platform.enrol("spring", NEXT, "--set", f"experiments.spring.last={after}") == 0


def test_units_by_hand(tmp_path: Path) -> None:
    """Advertiser 0 is listed in both scenarios, 1 in b alone, 2 not at all."""
    platform = Platform.at(tmp_path)
    rows = with_columns(
        platform.rows(range(3), DAY, labels=False),
        {
            "active_days": pa.array([1, 3, 2, 2, 4, 4], pa.int16()),
            "history_days": pa.array([[2.0, 1.0, 0, 0, 0, 9], [4.0, 7.0, 0, 0, 0, 9]] * 3),
            "history_units": pa.array([[5.0, 3.0, 0, 0, 0, 600.0], [8.0, 1.0, 0, 0, 0, 500.0]] * 3),
        },
    )
    platform.publish_features(rows)
    platform.publish_predictions(rows, {"days": [1.4, 2.8] * 3, "units": [6.0, 1.0] * 3})
    day = PredictedDay.at(str(tmp_path / f"features/dt={DAY}"), str(tmp_path / f"predictions/dt={DAY}"))
    experiment = ExperimentConfig(
        design="holdout", salt="s", first=DAY, last=DAY, active="days", spend="units", cap=12.0
    )
    listed = pa.table({"advertiser_id": ["0", "0", "1"], "scenario_id": ["a", "b", "b"]})
    both, one = day_units(experiment, day, audience="active", listed=listed).to_pylist()
    assert both == {
        "advertiser_id": "0",
        "stratum": "b, scale 4",  # most active in b; 1,100 units over the T days have four digits
        "pairs": ["b", "a"],
        "active_last": pytest.approx((2 + 4) / 14),
        "active_before": pytest.approx((1 + 7) / 14),
        "active_forecast": pytest.approx((1.4 + 2.8) / 14),
        "spend_last": 12.0,  # of 13
        "spend_before": 4.0,
        "spend_forecast": 7.0,
    }
    assert (one["advertiser_id"], one["pairs"], one["active_last"]) == ("1", ["b"], pytest.approx(4 / 7))
    assert one["spend_last"] == 12.0, "spend is over all scenarios"
    everybody = day_units(experiment, day, audience="active").to_pylist()
    assert [row["pairs"] for row in everybody] == [["b", "a"], ["a"], ["a", "b"]]
    inactive = day_units(experiment, day, audience="inactive").to_pylist()
    assert [(row["advertiser_id"], row["pairs"]) for row in inactive] == [("1", ["b"])]


def test_units_of_many_against_a_loop(platform: Platform) -> None:
    day = PredictedDay.at(str(platform.out / f"features/dt={DAY}"), str(platform.out / f"predictions/dt={DAY}"))
    experiment = RunConfig.read(platform.out / "config.toml").experiments["better"]
    units = {row["advertiser_id"]: row for row in day_units(experiment, day, audience="active").to_pylist()}
    assert list(units) == sorted(str(number) for number in MANY)
    expected: dict[str, dict[str, list[float]]] = {}
    for rows, forecasts in day.tables(["eligible", "history_units", "history_days"], None):
        for row, forecast in zip(rows.to_pylist(), forecasts.to_pylist(), strict=True):
            sums = expected.setdefault(row["advertiser_id"], {"spend": [0.0] * 3, "active": [0.0] * 3})
            sums["spend"] = [
                a + b for a, b in zip(sums["spend"], [*row["history_units"][:2], forecast["units_mean"]], strict=True)
            ]
            if row["eligible"]:
                sums["active"] = [
                    a + b
                    for a, b in zip(sums["active"], [*row["history_days"][:2], forecast["days_mean"]], strict=True)
                ]
    for advertiser, sums in expected.items():
        unit = units[advertiser]
        for place, when in enumerate(("last", "before", "forecast")):
            assert unit[f"spend_{when}"] == pytest.approx(min(sums["spend"][place], 12.0))
            assert unit[f"active_{when}"] == pytest.approx(sums["active"][place] / (7 * len(unit["pairs"])))


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    platform = Platform.at(tmp_path, SPEC.model_copy(update={"advertiser_id_type": "bigint"}))
    rows = platform.publish_day(MANY)
    assert platform.enrol("spring") == 0
    listed = platform.table(f"lists/fading/dt={DAY}", "list")
    assert listed.schema.field("advertiser_id").type == pa.int64()
    assert {int(advertiser) for advertiser in platform.arms("spring")} == set(listed["advertiser_id"].to_pylist())
    platform.publish_labels(rows)
    assert platform.read("spring") == 0
    manifest = read_manifest(Folder.at(tmp_path / "experiments/spring/reading"), kind="reading", build_hint="")
    assert not manifest.content["refused"]
