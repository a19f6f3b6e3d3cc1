"""As-of days by split, and the purge rule that keeps label windows apart."""

import datetime
from collections.abc import Mapping

from etl.config import EtlConfig, SplitConfig
from m2m_model.contracts.errors import UserError

SPLITS = ("train", "validation", "test")
DAY = datetime.timedelta(days=1)


def as_of_days(config: EtlConfig) -> dict[str, tuple[datetime.date, ...]]:
    """As-of days of each split, ascending.

    Raises:
        UserError: a day's features or labels are not fully observed, or the splits break the purge rule.
    """
    ranges = _ranges(config)
    _assert_purged(ranges, config)
    strides = _strides(config.split)
    return {split: _strided(*ranges[split], strides[split]) for split in SPLITS}


def possible_days(config: EtlConfig) -> tuple[datetime.date, datetime.date]:
    """First and last as-of day whose T days and label window lie inside the raw calendar."""
    sequence = config.sequence
    first = config.raw.first_day + DAY * (sequence.availability_lag_days + sequence.length - 1)
    last = config.raw.last_day - DAY * sequence.horizon
    if first > last:
        raise UserError(
            f"raw.first_day {config.raw.first_day} to raw.last_day {config.raw.last_day} must hold at least "
            f"sequence.length + lag + horizon = "
            f"{sequence.length + sequence.availability_lag_days + sequence.horizon} days"
        )
    return first, last


def _ranges(config: EtlConfig) -> dict[str, tuple[datetime.date, datetime.date]]:
    first, last = possible_days(config)
    split = config.split
    if split.train and split.validation and split.test:
        ranges = {"train": split.train, "validation": split.validation, "test": split.test}
        for name, (start, end) in ranges.items():
            if not first <= start <= end <= last:
                raise UserError(
                    f"split.{name} must lie within {first} .. {last}, where features and labels are fully observed, "
                    f"however: {start} .. {end}"
                )
        return ranges
    return _by_ratio(config, first, last)


def _by_ratio(
    config: EtlConfig, first: datetime.date, last: datetime.date
) -> dict[str, tuple[datetime.date, datetime.date]]:
    days, ratio = (last - first).days + 1, config.split.ratio
    cuts = [first + DAY * (days * part // sum(ratio)) for part in (ratio[0], ratio[0] + ratio[1])]
    gap = DAY * purge_days(config)
    train = (first, cuts[0] - DAY)
    validation = (max(cuts[0], train[1] + gap), cuts[1] - DAY)
    test = (max(cuts[1], validation[1] + gap), last)
    ranges = {"train": train, "validation": validation, "test": test}
    for name, (start, end) in ranges.items():
        if start > end:
            raise UserError(f"split.ratio {list(ratio)} leaves no as-of day for {name}: widen raw dates or the ratio")
    return ranges


def purge_days(config: EtlConfig) -> int:
    """Least distance from the last as-of day of a split to the first of the next: horizon + availability lag."""
    return config.sequence.horizon + config.sequence.availability_lag_days


def _assert_purged(ranges: Mapping[str, tuple[datetime.date, datetime.date]], config: EtlConfig) -> None:
    for earlier, later in (("train", "validation"), ("validation", "test")):
        end, start = ranges[earlier][1], ranges[later][0]
        if start < end + DAY * purge_days(config):
            raise UserError(
                f"split.{later} must start at least horizon + lag = {purge_days(config)} days after the last day of "
                f"split.{earlier} ({end}), however: it starts {start}"
            )


def _strides(split: SplitConfig) -> dict[str, int]:
    return {"train": split.train_stride, "validation": split.validation_stride, "test": split.test_stride}


def _strided(first: datetime.date, last: datetime.date, stride: int) -> tuple[datetime.date, ...]:
    count = (last - first).days // stride + 1
    return tuple(last - DAY * stride * step for step in reversed(range(count)))
