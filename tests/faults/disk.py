"""A disk that is full."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096
"""What a file takes of a tmpfs is rounded up to this."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of one megabyte at ``folder``; the test is skipped where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "faults", str(folder)], check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, *, free_pages: int) -> Path:
    """Leave so many pages; returns the ballast."""
    ballast, status = disk / "ballast", os.statvfs(disk)
    ballast.write_bytes(bytes(max(0, status.f_bavail * status.f_frsize - free_pages * PAGE)))
    return ballast


def taken(disk: Path) -> int:
    """Pages that the files on it take."""
    return sum(-(-file.stat().st_size // PAGE) for file in disk.rglob("*") if file.is_file())
