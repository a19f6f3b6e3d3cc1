"""What an experiment found: by hand, a planted effect, what is refused and what is said."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from jobs import select_rewarded
from jobs.config import RunConfig
from tests.experiments.published import DAY, NEXT, Platform, with_columns
from training.experiments.enrolment import ASSIGNMENT, publish_assignment

CAP = 12.0
CELLS = (("s", "holdout"), ("s", "incentive"), ("t", "holdout"), ("t", "incentive"))
BUDGET = ("--set", "engagement.lists.fading.budget=300")


def test_effects_by_hand(tmp_path: Path) -> None:
    """Eight advertisers in two strata; the outcome of a pair that was not in question counts for spend alone."""
    platform = Platform.at(tmp_path)
    arms = ["holdout", "incentive"] * 4
    strata = ["s"] * 4 + ["t"] * 4
    table = pa.table(
        {
            "advertiser_id": [str(number) for number in range(8)],
            "stratum": strata,
            "arm": arms,
            "enrolled": pa.array([DAY] * 8, pa.date32()),
            "pairs": [["a"]] * 6 + [["a", "b"]] * 2,
            **{f"active_{when}": [0.1, 0.2, 0.3, 0.4] * 2 for when in ("last", "before", "forecast")},
            **{f"spend_{when}": [1.0, 5.0, 2.0, 4.0] * 2 for when in ("last", "before", "forecast")},
        }
    ).cast(ASSIGNMENT)
    config = RunConfig.read(tmp_path / "config.toml").experiments["spring"]
    publish_assignment(str(tmp_path / "experiments/spring"), table, experiment=config, grace_seconds=0.0)
    days = [1, 0, 3, 0, 2, 0, 5, 0, 4, 0, 7, 0, 1, 3, 6, 0]
    units = [2, 1, 4, 4, 9, 1, 50, 0, 0, 0, 2, 3, 1, 1, 8, 2]
    rows = with_columns(
        platform.rows(range(8), DAY, labels=True),
        {"label_days": pa.array(days, pa.float64()), "label_units": pa.array(units, pa.float64())},
    )
    platform.publish_labels(rows.take(pa.array(np.random.default_rng(0).permutation(16))))
    assert platform.read("spring") == 0
    reading = platform.reading("spring")
    assert reading["read"] == {"holdout": 4, "incentive": 4}
    active, spend = reading["comparisons"]
    rates = np.array([1, 3, 2, 5, 4, 7, (1 + 3) / 2, 6 / 2]) / 7
    spent = np.minimum([3, 8, 10, 50, 0, 5, 2, 10], CAP)
    for line, outcome in ((active, rates), (spend, spent)):
        means = [outcome[[i for i in range(8) if (strata[i], arms[i]) == cell]].mean() for cell in CELLS]
        assert line["plain"]["difference"] == pytest.approx(0.5 * (means[1] - means[0]) + 0.5 * (means[3] - means[2]))
        assert line["control_mean"] == pytest.approx(outcome[::2].mean())
        assert line["arm_mean"] == pytest.approx(outcome[1::2].mean())
        assert line["plain"]["relative"] == pytest.approx(line["plain"]["difference"] / outcome[::2].mean())
        # CUPED by hand: both covariates are the same here, so that one slope within strata and arms is enough.
        known = np.array([0.1, 0.2, 0.3, 0.4] * 2 if line is active else [1.0, 5.0, 2.0, 4.0] * 2)
        cells = [[i for i in range(8) if (strata[i], arms[i]) == cell] for cell in CELLS]
        centred = [(known[cell] - known[cell].mean(), outcome[cell] - outcome[cell].mean()) for cell in cells]
        slope = sum((x * y).sum() for x, y in centred) / sum((x * x).sum() for x, _ in centred)
        rest = outcome - slope * (known - known.mean())
        means = [rest[cell].mean() for cell in cells]
        adjusted = 0.5 * (means[1] - means[0]) + 0.5 * (means[3] - means[2])
        assert line["adjusted"]["difference"] == pytest.approx(adjusted)


@pytest.mark.parametrize("name", ["spring", "better"])
def test_a_planted_effect_is_recovered(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The second arm has a day and a unit more in every pair; what a pair does anyway is what it did last week."""
    platform = Platform.at(tmp_path)
    many, random = range(400), np.random.default_rng(5)
    usual = np.repeat(random.integers(0, 6, len(many)), 2).astype(float)
    history = pa.array([[value, value, value, value, value, value] for value in usual])
    rows = platform.rows(many, DAY, labels=True)
    rows = with_columns(rows, {"history_days": history, "history_units": history})
    platform.publish_features(rows.drop_columns(["label_units", "label_days"]))
    for model in ("predictions", "challenger"):
        platform.publish_predictions(rows, {"days": usual, "units": usual}, to=model)
    platform.run(select_rewarded, "--date", str(DAY), *BUDGET)
    assert platform.enrol(name, DAY, *BUDGET) == 0
    arms = platform.arms(name)
    treated = np.array([arms.get(i) in ("incentive", "challenger") for i in rows["advertiser_id"].to_pylist()])
    came = usual + random.integers(0, 2, len(usual))
    labels = {"label_days": pa.array(came + treated), "label_units": pa.array(came + treated)}
    platform.publish_labels(with_columns(rows, labels))
    assert platform.read(name) == 0
    lines = platform.reading(name)["comparisons"]
    assert [line["measure"] for line in lines] == ["active rate", "ARPU"]
    for line in lines:
        plain, adjusted = line["plain"], line["adjusted"]
        assert adjusted["low"] > 0
        assert adjusted["variance_reduction"] > 0.5
        assert adjusted["high"] - adjusted["low"] < plain["high"] - plain["low"]
    active = lines[0]
    for found in (active["plain"], active["adjusted"]):  # four standard errors: whether 95 % cover is test_effects.py's
        assert abs(found["difference"] - 1 / 7) < (found["high"] - found["low"])
    page = (tmp_path / f"experiments/{name}/reading/index.html").read_text()
    assert f"{active['adjusted']['difference']:+.4f} [{active['adjusted']['low']:+.4f}" in page
    assert "http" not in page
    said = capsys.readouterr().out
    assert "active rate, " in said
    assert "with CUPED" in said


def test_each_arm_is_compared_with_the_first(tmp_path: Path) -> None:
    platform = Platform.at(tmp_path)
    rows = platform.publish_day(range(80))
    arms = '[{ name = "nothing", share = 2 }, { name = "coupon" }, { name = "credit" }]'
    three = ("--set", f"experiments.spring.arms={arms}", "--set", "engagement.lists.fading.budget=100")
    platform.run(select_rewarded, "--date", str(DAY), *three)
    assert platform.enrol("spring", DAY, *three) == 0
    found = list(platform.arms("spring").values())
    assert [found.count(arm) for arm in ("nothing", "coupon", "credit")] == pytest.approx([40, 20, 20], abs=5)
    platform.publish_labels(rows)
    assert platform.read("spring") == 2, "the arms are not those of the enrolment"
    assert platform.read("spring", *three) == 0
    compared = [(line["arm"], line["measure"]) for line in platform.reading("spring")["comparisons"]]
    assert compared == [(arm, measure) for arm in ("coupon", "credit") for measure in ("active rate", "ARPU")]


def test_an_arm_that_lost_units_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = Platform.at(tmp_path)
    rows = platform.publish_day(range(200))
    platform.enrol("better")
    arms = platform.arms("better")
    lost = [advertiser for advertiser in arms if arms[advertiser] == "challenger"][:20]
    platform.publish_labels(rows.filter(pc.invert(pc.is_in(rows["advertiser_id"], value_set=pa.array(lost)))))
    assert platform.read("better") == 4
    reading = platform.reading("better")
    assert reading["ratio_p"] > 0.1, "sizes alone would not tell"
    assert reading["lost_p"] < 0.001
    assert reading["read"] == {"current": 100, "challenger": 80}
    assert reading["comparisons"] == []
    assert "challenger 20 of 100" in reading["refused"]
    page = (tmp_path / "experiments/better/reading/index.html").read_text()
    assert "No effects" in page
    assert "CUPED" not in page
    assert "no effects: the arms did not come through alike" in capsys.readouterr().out


def test_an_advertiser_that_lacks_a_pair_has_no_outcome(tmp_path: Path) -> None:
    platform = Platform.at(tmp_path)
    rows = platform.publish_day(range(20))
    platform.enrol("better")
    platform.publish_labels(rows.slice(0, 39).take(pa.array([i for i in range(39) if i != 1])))
    platform.read("better")
    read = platform.reading("better")["read"]
    assert sum(read.values()) == 19, "advertiser 0 lacks b, where it was eligible; 19 lacks b, where it was not"


def test_a_look_before_the_end_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = Platform.at(tmp_path)
    rows = platform.publish_day(range(60))
    later = platform.publish_day(range(60, 120), NEXT)
    assert platform.enrol("better") == platform.enrol("better", NEXT) == 0
    assert platform.read("better") == 2
    assert "has matured" in capsys.readouterr().err
    platform.publish_labels(rows)
    assert platform.read("better") == 0
    assert "a look before the end" in capsys.readouterr().out
    reading = platform.reading("better")
    assert (reading["days"], reading["pending"], reading["is_complete"]) == ([str(DAY)], [str(NEXT)], False)
    assert sum(reading["read"].values()) == 60
    assert "look before the end" in (tmp_path / "experiments/better/reading/index.html").read_text()
    platform.publish_labels(later, NEXT)
    assert platform.read("better") == 0
    reading = platform.reading("better")
    assert (reading["pending"], reading["is_complete"]) == ([], True)
    assert sum(reading["read"].values()) == 120


def test_labels_without_the_tasks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    platform = Platform.at(tmp_path)
    rows = platform.publish_day(range(20))
    platform.enrol("better")
    other = Platform(tmp_path, platform.spec.model_copy(update={"tasks": platform.spec.tasks[:1]}))
    other.publish_labels(rows)
    assert platform.read("better") == 2
    assert "must have labels of 'days', however: of ['units']" in capsys.readouterr().err
