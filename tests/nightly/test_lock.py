"""The lock of a day, held by real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.nightly.lock import LOCK, LockedError, is_locked, lock_file, locked

HOLD = """
import sys, time
from training.nightly.lock import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_told_who_holds_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        assert is_locked(str(tmp_path))
        with pytest.raises(LockedError, match=f"process {process.pid} on .* since 20"), locked(str(tmp_path)):
            raise AssertionError("two hold it")
    finally:
        process.kill()
        process.wait()
    with locked(str(tmp_path)) as lock:
        assert f"process {process.pid}" in lock.left_by
        assert "which died" in lock.left_by


def test_who_ends_leaves_nothing(tmp_path: Path) -> None:
    with locked(str(tmp_path)) as lock:
        assert lock.left_by == ""
    with pytest.raises(KeyError), locked(str(tmp_path)):
        raise KeyError
    assert not is_locked(str(tmp_path))
    with locked(str(tmp_path)) as lock:
        assert lock.left_by == ""


def test_a_child_that_inherits_it_holds_it_on(tmp_path: Path) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    with locked(str(tmp_path)) as lock:
        child = subprocess.Popen(sleep, pass_fds=(lock.descriptor,))
    assert is_locked(str(tmp_path))
    child.kill()
    child.wait()
    assert not is_locked(str(tmp_path))


def test_where_the_file_lies(tmp_path: Path) -> None:
    assert lock_file(str(tmp_path)) == tmp_path / LOCK
    places = {lock_file(f"s3://bucket/daily/dt=2017-03-0{day}") for day in (1, 2)}
    assert len(places) == 2
    assert not is_locked("s3://bucket/nobody/works/here")
