"""Folders by day."""

import datetime
from pathlib import Path

from m2m_model.contracts.days import published_days
from m2m_model.contracts.store import MANIFEST


def test_only_folders_named_by_a_day_that_hold_the_file_are_published_days(tmp_path: Path) -> None:
    for name in ("dt=2017-12-30", "dt=2017-12-02", "dt=2017-12-30.bak", "dt=2017-13-01", "dt=20171231", "2017-12-29"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).touch()
    (tmp_path / "dt=2017-12-31").mkdir()
    assert published_days(str(tmp_path)) == [datetime.date(2017, 12, 2), datetime.date(2017, 12, 30)]
    assert published_days(str(tmp_path / "nowhere")) == []
