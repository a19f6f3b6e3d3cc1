"""Damaged configs: every one is one line that names the key, before anything is read."""

import copy
import datetime
from pathlib import Path
from typing import Any

import pytest

from etl.config import EtlConfig
from etl.split import as_of_days
from jobs.config import RunConfig
from m2m_model.contracts.config import parse, read_toml
from m2m_model.contracts.errors import UserError

CONFIG = Path(__file__).parents[3] / "jobs" / "configs" / "complete_journey.toml"
TABLE = read_toml(CONFIG)


class Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = Missing()
DATE = datetime.date

# (key, value, words that the message must hold)
VALUES: list[tuple[str, Any, str]] = [
    ("raw.timezone", "Mars/Phobos", "Mars/Phobos"),
    ("raw.timezone", "", "timezone"),
    ("raw.timezone", "../../etc/passwd", "timezone"),
    ("raw.timezone", 8, "timezone"),
    ("raw.first_day", "yesterday", "first_day"),
    ("raw.first_day", "2017-02-30", "first_day"),
    ("raw.first_day", 20170101, "first_day"),
    ("raw.first_day", 0, "first_day"),
    ("raw.first_day", True, "first_day"),
    ("raw.first_day", MISSING, "raw.first_day"),
    ("raw.first_day", DATE(1017, 1, 1), "first_day"),
    ("raw.last_day", DATE(2016, 12, 31), "last_day"),
    ("raw.last_day", DATE(9999, 12, 31), "last_day"),
    ("raw.last_day", DATE(2017, 2, 15), "must hold at least"),
    ("raw.facts", {}, "raw.facts"),
    ("raw.facts", [], "facts"),
    ("raw.facts.Performance", {"kind": "daily"}, "Performance"),
    ("raw.facts.profile", {"kind": "daily"}, "profile"),
    ("raw.facts.performance.kind", "event", "kind"),
    ("raw.facts.performance.kind", None, "kind"),
    ("raw.facts.performance.time", 7, "time"),
    ("raw.facts.performance.tme", "time", "time"),
    ("raw.profile", {"day": "day"}, "profile.key"),
    ("raw.profile", "profile", "profile"),
    ("sequence.length", 0, "length"),
    ("sequence.length", -40, "length"),
    ("sequence.length", 40.5, "length"),
    ("sequence.length", True, "length"),
    ("sequence.length", "40", "length"),
    ("sequence.length", 10**12, "length"),
    ("sequence.length", 400, "must hold at least"),
    ("sequence.lenght", 40, "sequence.length"),
    ("sequence.horizon", 0, "horizon"),
    ("sequence.horizon", float("nan"), "horizon"),
    ("sequence.availability_lag_days", -1, "availability_lag_days"),
    ("sequence.availability_lag_days", 10**15, "availability_lag_days"),
    ("sequence.history_weeks", 0, "history_weeks"),
    ("sequence.history_weeks", 10**9, "history_weeks"),
    ("features", MISSING, "features"),
    ("features.performance.sales.buckets", 0, "buckets"),
    ("features.performance.sales.buckets", 16_001, "buckets"),
    ("features.performance.sales.buckets", "many", "buckets"),
    ("features.performance.sales.dense", "yes", "dense"),
    ("features.performance.sales.dense", 1, "dense"),
    ("features.performance.sales.scope", "each", "scope"),
    ("features.performance.sales.table", "sales", "sales"),
    ("features.performance.sales.expression", "sum(x)", "expr"),
    ("features.performance.sales.expr", MISSING, "expr"),
    ("features.performance.sales.expr", 7, "expr"),
    ("features.performance.Sales", {"expr": "sum(x)"}, "Sales"),
    ("features.performance", {"sales@shelf": {"expr": "sum(x)"}}, "sales@shelf"),
    ("features.profile.size.kind", "buckets", "kind"),
    ("features.scenarios", {}, "features.scenario"),
    ("tasks", {}, "tasks"),
    ("tasks", MISSING, "tasks"),
    ("tasks.sales.unit", MISSING, "tasks.sales.unit"),
    ("tasks.sales.table", "orders", "orders"),
    ("tasks.sales.daily_max", 0, "daily_max"),
    ("tasks.sales.daily_max", True, "daily_max"),
    ("tasks.2sales", {"expr": "sum(x)", "unit": "x"}, "2sales"),
    ("population.table", "orders", "orders"),
    ("population.min_active_days", 0, "min_active_days"),
    ("population.train", "all", "population.train"),
    ("split.train", MISSING, "together"),
    ("split.train", [DATE(2017, 2, 9)], "split.train"),
    ("split.train", [DATE(2017, 10, 10), DATE(2017, 2, 9)], "split.train"),
    ("split.train", [DATE(2017, 1, 1), DATE(2017, 10, 10)], "split.train"),
    ("split.train", [DATE(2017, 2, 9), DATE(2017, 10, 12)], "split.validation"),
    ("split.test", [DATE(2017, 11, 24), DATE(2017, 12, 25)], "split.test"),
    ("split.test", [DATE(2017, 11, 20), DATE(2017, 12, 23)], "split.test"),
    ("split.train_stride", 0, "train_stride"),
    ("split.train_stride", 2.5, "train_stride"),
    ("split", {"ratio": [0, 0, 0]}, "ratio"),
    ("split", {"ratio": [8, 1, -1]}, "ratio"),
    ("split", {"ratio": [8, 1]}, "ratio"),
    ("split", {"ratio": "8:1:1"}, "ratio"),
    ("split", {"ratio": [1000, 1, 1]}, "ratio"),
    ("checks.null_keys", "warn", "null_keys"),
    ("checks.nul_keys", "drop", "checks.null_keys"),
    ("checks.negative_labels", True, "negative_labels"),
    ("dataset.shards", 0, "shards"),
    ("dataset.shards", 10**9, "shards"),
    ("dataset.compression", "gzip", "compression"),
    ("dataset.row_group_rows", -1, "row_group_rows"),
    ("dataset.grace_seconds", float("inf"), "grace_seconds"),
    ("dataset.grace_seconds", -1, "grace_seconds"),
    ("spark.master", 4, "master"),
    ("spark.master", "local[2", "master"),
    ("spark.master", "127.0.0.1:7077", "master"),
    ("spark.conf", {"spark.sql.shuffle.partitions": 4}, "conf"),
    ("spark.conf", {"spark.sql.session.timeZone": "Asia/Shanghai"}, "timeZone"),
    ("spark.conf", {"spark.sql.ansi.enabled": "false"}, "ansi"),
    ("spark.conf", {"spark.hadoop.parquet.page.verify-checksum.enabled": "false"}, "checksum"),
    ("sequences", {"length": 40}, "sequence"),
    ("run.out", MISSING, "run.out"),
]

TEXTS = {
    "not TOML": b"[raw\nfirst_day = 2017-01-01",
    "a date of no calendar": b"[raw]\nfirst_day = 2017-02-30",
    "the same key twice": b"[raw]\nfirst_day = 2017-01-01\nfirst_day = 2017-01-02",
    "binary": bytes(range(256)),
    "cut in the middle of a character": "[run]\nname = 'é".encode()[:-1],
    "empty": b"",
}

OVERRIDES = ["raw.first_day", "=3", "raw..first_day=3", "raw.first_day.month=2", "sequence.length=forty", "sequence=4"]


def damaged(key: str, value: Any) -> dict[str, Any]:
    table = copy.deepcopy(TABLE)
    section: Any = table
    *parents, leaf = key.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})
    if value is MISSING:
        del section[leaf]
    else:
        section[leaf] = value
    return table


def test_the_undamaged_config_is_good() -> None:
    assert as_of_days(parse(RunConfig, TABLE, source="run.toml"))


@pytest.mark.parametrize(("key", "value", "word"), VALUES, ids=[f"{k}={v!r:.40}" for k, v, _ in VALUES])
def test_values(key: str, value: Any, word: str) -> None:
    with pytest.raises(UserError) as caught:
        as_of_days(parse(RunConfig, damaged(key, value), source="run.toml"))
    message = str(caught.value)
    assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("case", TEXTS)
def test_texts(tmp_path: Path, case: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(TEXTS[case])
    with pytest.raises(UserError, match=r"run\.toml") as caught:
        RunConfig.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("override", OVERRIDES)
def test_overrides(override: str) -> None:
    with pytest.raises(UserError) as caught:
        RunConfig.read(CONFIG, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("section", sorted(EtlConfig.model_fields))
@pytest.mark.parametrize("value", [3, "text", [1], True])
def test_whatever_stands_for_a_section(section: str, value: Any) -> None:
    with pytest.raises(UserError, match=section):
        parse(RunConfig, damaged(section, value), source="run.toml")
