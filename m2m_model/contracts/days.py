"""Folders by day, as every job publishes them: ``<folder>/dt=YYYY-MM-DD``."""

import datetime

import pyarrow.fs as pafs

from m2m_model.contracts.store import MANIFEST, Folder

PREFIX = "dt="


def published_days(location: str, name: str = MANIFEST) -> list[datetime.date]:
    """The days, ascending, whose folder below ``location`` holds file ``name``; none where there is no such place."""
    root = Folder.at(location)
    found = root.filesystem.get_file_info(pafs.FileSelector(root.path, recursive=False, allow_not_found=True))
    names = [info.base_name for info in found if info.base_name.startswith(PREFIX)]
    return sorted(
        datetime.date.fromisoformat(day.removeprefix(PREFIX)) for day in names if root.exists(f"{day}/{name}")
    )
