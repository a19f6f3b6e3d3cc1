import datetime
import itertools

import pytest

from etl.config import EtlConfig
from etl.split import as_of_days, possible_days
from m2m_model.contracts.errors import UserError

FIRST = datetime.date(2017, 1, 1)
DAY = datetime.timedelta(days=1)


def config(**sections: object) -> EtlConfig:
    base: dict[str, object] = {
        "raw": {"first_day": FIRST, "last_day": FIRST + 364 * DAY, "facts": {"performance": {}}},
        "features": {},
        "tasks": {"clicks": {"expr": "sum(clicks)", "unit": "clicks"}},
    }
    return EtlConfig.model_validate(base | sections)


def test_possible_days_have_full_windows_and_labels() -> None:
    assert possible_days(config()) == (FIRST + 39 * DAY, FIRST + 357 * DAY)
    lagged = config(sequence={"length": 40, "availability_lag_days": 2})
    assert possible_days(lagged)[0] == FIRST + 41 * DAY


@pytest.mark.parametrize(("horizon", "lag"), [(7, 0), (7, 2), (14, 1), (1, 0)])
def test_label_windows_of_splits_never_overlap(horizon: int, lag: int) -> None:
    days = as_of_days(config(sequence={"horizon": horizon, "availability_lag_days": lag}))
    for earlier, later in (("train", "validation"), ("validation", "test")):
        last_label_known = days[earlier][-1] + (horizon + lag) * DAY
        assert days[later][0] >= last_label_known
    assert len(days["train"]) > 7 * len(days["test"])


def test_explicit_split_that_breaks_the_purge_rule_is_refused() -> None:
    split = {
        "train": (FIRST + 39 * DAY, FIRST + 282 * DAY),
        "validation": (FIRST + 288 * DAY, FIRST + 319 * DAY),
        "test": (FIRST + 327 * DAY, FIRST + 356 * DAY),
    }
    with pytest.raises(UserError, match=r"split.validation must start at least horizon \+ lag = 7 days after"):
        as_of_days(config(split=split))


def test_labels_beyond_the_last_raw_day_are_refused() -> None:
    split = {
        "train": (FIRST + 39 * DAY, FIRST + 282 * DAY),
        "validation": (FIRST + 290 * DAY, FIRST + 319 * DAY),
        "test": (FIRST + 327 * DAY, FIRST + 358 * DAY),
    }
    with pytest.raises(UserError, match=r"split.test must lie within"):
        as_of_days(config(split=split))


def test_strides_count_back_from_the_last_day() -> None:
    days = as_of_days(config(split={"train_stride": 7}))["train"]
    whole = as_of_days(config())["train"]
    assert days[-1] == whole[-1]
    assert {(b - a).days for a, b in itertools.pairwise(days)} == {7}
    assert set(days) <= set(whole)
