"""What a night finds in what it published, threshold by threshold."""

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, publish
from tests.training.tiny import DAY, SPEC, publish_tables, random_table
from training.nightly.checks import check_night
from training.nightly.config import KeeperConfig
from training.nightly.page import verdict, write_page
from training.nightly.summary import Alert, Inputs, ModelUsed, StepRun, Summary, read_summary, write_summary

ROWS = 10
INPUTS = {
    "performance": {"2017-02-27": "x", "2017-03-01": "y"},
    "orders": {"all": "z"},
    "profile": {"2017-01-01": "x"},
}
EASY = KeeperConfig(total_ratio=(0, 1e9), zero_share=1.0)


def publish_night(
    root: Path, *, day: datetime.date = DAY, rows: int = ROWS, factor: float = 1.0, **content: Any
) -> None:
    """A day whose mean forecasts are ``factor`` times last week's values, the others 0, 1, 0, 1, .."""
    features = random_table(rows, seed=0, day=day, labels=False)
    built = publish_tables(str(root / f"features/dt={day}"), "features", {"part-0": (features, {})})
    about = {"inputs": INPUTS, "rows_by_scenario": {"features": {"a": rows}}, "dropped": {}} | content
    publish(Folder.at(root / f"features/dt={day}"), built.model_copy(update={"content": about}))
    scored = features.select(["advertiser_id", "scenario_id", "as_of"])
    for task in SPEC.task_names:
        weeks = [factor * history[0] for history in features[f"history_{task}"].to_pylist()]
        scored = scored.append_column(f"{task}_mean", pa.array(weeks))
        for kind in ("point", "smape"):
            scored = scored.append_column(f"{task}_{kind}", pa.array([float(row % 2) for row in range(rows)]))
    publish_tables(str(root / f"predictions/dt={day}"), "predictions", {"part-0": (scored, {})})


def check(root: Path, config: KeeperConfig, day: datetime.date = DAY) -> tuple[Inputs, dict[str, Alert]]:
    found = check_night(day, features=str(root / "features"), predictions=str(root / "predictions"), config=config)
    return found[0], {alert.check: alert for alert in found[1]}


def test_a_good_night(tmp_path: Path) -> None:
    publish_night(tmp_path)
    inputs, alerts = check(tmp_path, KeeperConfig())
    assert not alerts
    assert inputs == Inputs(
        rows=ROWS,
        rows_by_scenario={"a": ROWS},
        newest_day={"performance": DAY, "orders": None, "profile": datetime.date(2017, 1, 1)},
    )


def test_too_few_rows_and_fewer_than_before(tmp_path: Path) -> None:
    publish_night(tmp_path, day=DAY - datetime.timedelta(days=3), rows=100)
    publish_night(tmp_path)
    _, alerts = check(tmp_path, EASY.model_copy(update={"min_rows": 11}))
    assert set(alerts) == {"rows", "rows_ratio"}
    assert (alerts["rows"].value, alerts["rows"].threshold) == (ROWS, 11)
    assert (alerts["rows_ratio"].value, alerts["rows_ratio"].threshold) == (0.1, 0.5)
    _, alerts = check(tmp_path, EASY.model_copy(update={"rows_ratio": (0.1, 1.0)}))
    assert not alerts


def test_zeros_and_totals(tmp_path: Path) -> None:
    publish_night(tmp_path, factor=4.0)
    _, alerts = check(tmp_path, KeeperConfig(zero_share=0.4))
    assert set(alerts) == {f"{check}.{task}" for check in ("zero_share", "total_ratio") for task in SPEC.task_names}
    assert alerts["zero_share.units"].value == 0.5
    assert (alerts["total_ratio.units"].value, alerts["total_ratio.units"].threshold) == (4.0, 3.0)


def test_forecasts_that_are_no_forecasts(tmp_path: Path) -> None:
    publish_night(tmp_path, factor=float("nan"))
    _, alerts = check(tmp_path, EASY)
    assert alerts["usable.units"].value == ROWS
    publish_night(tmp_path, factor=-1.0)
    _, alerts = check(tmp_path, EASY)
    assert alerts["usable.days"].value > 0


def test_dropped_rows(tmp_path: Path) -> None:
    publish_night(tmp_path, dropped={"null_keys": 3, "negative_labels": 0})
    _, alerts = check(tmp_path, EASY)
    assert set(alerts) == {"dropped_rows"}
    assert alerts["dropped_rows"].message == "bad raw rows were let go: 3 null_keys"


def test_a_damaged_or_missing_day_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no complete features"):
        check(tmp_path, EASY)
    publish_night(tmp_path)
    next((tmp_path / "predictions").rglob("*.parquet")).write_bytes(b"no Parquet")
    with pytest.raises(UserError, match="make that day again"):
        check(tmp_path, EASY)


def test_the_page_and_the_summary_say_the_same(tmp_path: Path) -> None:
    moment = datetime.datetime(2017, 3, 2, 5, tzinfo=datetime.UTC)
    summary = Summary(
        date=DAY,
        started=moment,
        finished=moment + datetime.timedelta(seconds=95),
        status="alert",
        exit_code=4,
        model=ModelUsed(version="v1", fingerprint="f"),
        steps=(StepRun(name="features", status="done", seconds=1.5, detail="<b>10 rows</b>"),),
        inputs=Inputs(rows=10, newest_day={"performance": DAY}),
        alerts=(Alert(check="rows", value=10, threshold=11, message="few rows"),),
    )
    folder = Folder.at(tmp_path)
    assert read_summary(folder) is None
    write_summary(folder, summary)
    assert read_summary(folder) == summary
    write_page(folder, "tiny", summary)
    page = (tmp_path / "index.html").read_text()
    assert "few rows" in page
    assert "&lt;b&gt;10 rows&lt;/b&gt;" in page
    assert "2017-03-02 05:00:00 UTC, 95 seconds" in page
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged"):
        read_summary(folder)


def test_a_failed_night_says_whether_its_forecasts_are_published() -> None:
    moment = datetime.datetime(2017, 3, 2, 5, tzinfo=datetime.UTC)
    night = Summary(date=DAY, started=moment, finished=moment, status="failed", exit_code=13)
    steps = [StepRun(name=name, status="done", seconds=1) for name in ("features", "predictions")]
    early = [*steps, StepRun(name="lists", status="failed", seconds=1)]
    late = [
        *steps,
        StepRun(name="lists", status="skipped", seconds=1),
        StepRun(name="checks", status="failed", seconds=1),
    ]
    assert "still in force" in verdict(night.model_copy(update={"steps": early}))
    assert "are published" in verdict(night.model_copy(update={"steps": late}))


def test_ranges_are_checked() -> None:
    with pytest.raises(ValueError, match=r"\[lowest, highest\]"):
        KeeperConfig(rows_ratio=(2.0, 1.0))
