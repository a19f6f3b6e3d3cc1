"""A frozen spec laid over a run that it does not fit: refused before a day is built."""

import datetime
from typing import Any

import pytest

from etl.config import EtlConfig
from etl.frozen import check_frozen_spec, not_in_force
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from tests.etl.specs import small_spec

DAY = datetime.timedelta(days=1)
FIRST, LAST = datetime.date(2017, 1, 1), datetime.date(2017, 3, 31)
RAW: dict[str, Any] = {"first_day": FIRST, "last_day": LAST, "facts": {"performance": {}, "behavior": {}}}
LAG = 2


def config(**raw: Any) -> EtlConfig:
    return EtlConfig.model_validate(
        {
            "raw": RAW | raw,
            "sequence": {"length": 10, "horizon": 7, "availability_lag_days": LAG, "history_weeks": 1},
            "features": {},
            "tasks": {"clicks": {"expr": "sum(clicks)", "unit": "clicks"}},
        }
    )


@pytest.fixture
def spec() -> DatasetSpec:
    return small_spec().model_copy(update={"availability_lag_days": LAG})


@pytest.mark.parametrize("date", [FIRST + (LAG + 9) * DAY, LAST, LAST + 30 * DAY])
def test_days_with_a_full_sequence_pass(spec: DatasetSpec, date: datetime.date) -> None:
    check_frozen_spec(spec, config(), date)


@pytest.mark.parametrize("date", [FIRST + (LAG + 8) * DAY, datetime.date.min + 999 * DAY])
def test_days_before_the_first_full_sequence(spec: DatasetSpec, date: datetime.date) -> None:
    with pytest.raises(UserError, match=str(date)):
        check_frozen_spec(spec, config(), date)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"timezone": "Asia/Shanghai"}, "Asia/Shanghai"),
        ({"activity": small_spec().activity.model_copy(update={"table": "orders"})}, "orders"),
        ({"tasks": (small_spec().tasks[0].model_copy(update={"table": "orders"}),)}, "orders"),
        ({"behavior": (small_spec().behavior[0].model_copy(update={"table": "clicks"}),)}, "clicks"),
    ],
)
def test_specs_of_other_runs(spec: DatasetSpec, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        check_frozen_spec(spec.model_copy(update=changes), config(), LAST)


def test_what_a_config_says_otherwise_is_named() -> None:
    def of(**changes: Any) -> EtlConfig:
        own = {"expr": "x", "table": "performance"}
        same: dict[str, Any] = {
            "raw": RAW,
            "features": {
                "behavior": {"bids": own},
                "performance": {"clicks": {"expr": "x"}, "spend": {"expr": "x"}},
                "profile": {"tier": {"expr": "tier"}},
                "scenario": {"traffic": {"expr": "x", "kind": "bucket"}, "age": {"expr": "x", "kind": "bucket"}},
            },
            "tasks": {"clicks": {"expr": "sum(clicks)", "unit": "clicks"}},
        }
        return EtlConfig.model_validate(same | changes)

    spec = small_spec()
    assert not_in_force(spec, of()) == []
    assert not_in_force(spec, of(population={"min_active_days": 2})) == ["population.min_active_days"]
    task = {"expr": "sum(clicks)", "unit": "clicks", "daily_max": 1}
    assert not_in_force(spec, of(tasks={"clicks": task})) == ["tasks.clicks"]
    features = {"behavior": {"bids": {"expr": "y", "table": "performance"}, "new": {"expr": "x"}}}
    (bids,) = spec.behavior
    everywhere = bids.model_copy(update={"name": "all@feed", "scope": "each_scenario", "scenario": "feed"})
    found = not_in_force(spec.model_copy(update={"behavior": (bids, everywhere)}), of(features=features))
    assert found[:3] == ["features.behavior.bids", "features.behavior.new", "features.behavior.all"]
    assert {"features.performance.clicks", "features.profile.tier", "features.scenario.age"} <= set(found)
