"""As-of days: when one may be asked for, and folders by day as every job publishes them, ``<folder>/dt=YYYY-MM-DD``."""

import datetime
from zoneinfo import ZoneInfo

import pyarrow.fs as pafs

from m2m_model.contracts.store import MANIFEST, Folder

PREFIX = "dt="
DAY = datetime.timedelta(days=1)


def published_days(location: str, name: str = MANIFEST) -> list[datetime.date]:
    """The days, ascending, whose folder below ``location`` holds file ``name``; none where there is no such place.

    Other folders, such as an operator's copy ``dt=2017-12-30.bak``, are nobody's days.
    """
    root = Folder.at(location)
    found = root.filesystem.get_file_info(pafs.FileSelector(root.path, recursive=False, allow_not_found=True))
    days = [day for info in found if (day := _day(info.base_name))]
    return sorted(day for day in days if root.exists(f"{PREFIX}{day}/{name}"))


def _day(folder: str) -> datetime.date | None:
    """The day of a folder's name; None of any other folder."""
    try:
        day = datetime.date.fromisoformat(folder.removeprefix(PREFIX))
    except ValueError:
        return None
    return day if folder == f"{PREFIX}{day}" else None


def known_instant(date: datetime.date, *, timezone: str, after_hours: float) -> datetime.datetime:
    """When the features of as-of day ``date`` are taken: ``after_hours`` after the end of the local day.

    Example:
        >>> str(known_instant(datetime.date(2017, 3, 1), timezone="America/New_York", after_hours=6))
        '2017-03-02 11:00:00+00:00'
    """
    end = datetime.datetime.combine(date + DAY, datetime.time(), ZoneInfo(timezone))
    return end.astimezone(datetime.UTC) + datetime.timedelta(hours=after_hours)


def newest_known_day(now: datetime.datetime, *, timezone: str, after_hours: float) -> datetime.date:
    """The newest as-of day whose instant has come at ``now``, a moment with a time zone.

    Example:
        >>> early = datetime.datetime.fromisoformat("2017-03-02 10:59:00+00:00")
        >>> str(newest_known_day(early, timezone="America/New_York", after_hours=6))
        '2017-02-28'
    """
    day = now.astimezone(ZoneInfo(timezone)).date()
    while known_instant(day, timezone=timezone, after_hours=after_hours) > now:
        day -= DAY
    return day
