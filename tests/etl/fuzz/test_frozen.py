"""A frozen spec laid over a run that it does not fit: refused before a day is built."""

import datetime
from typing import Any

import pytest

from etl.config import EtlConfig
from etl.frozen import check_frozen_spec
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
