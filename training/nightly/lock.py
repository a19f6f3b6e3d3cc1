"""One process per day: a lock that dies with its holder.

The lock is the operating system's, on an open file (``flock``): whoever is killed has let go of it, and there is no
moment at which two can have it. Processes that inherit the open file hold it too, so that a night whose parent was
killed is not run a second time while one of its steps still works.
"""

import fcntl
import hashlib
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from m2m_model.contracts.store import is_uri

LOCK = "lock.json"
ATTEMPTS = 5


class LockedError(Exception):
    """Another process has the lock; the message says who."""


@dataclass(frozen=True)
class Lock:
    descriptor: int
    """To be handed to child processes (``pass_fds``)."""
    left_by: str
    """Who had the lock before and died with it; empty: nobody."""


@contextmanager
def locked(folder: str) -> Iterator[Lock]:
    """Hold the lock of ``folder`` while the block runs.

    The file lies in the folder; an object store has no locks, so there it lies in this machine's temporary folder.

    Raises:
        LockedError: another process holds it.
    """
    path = lock_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _take(descriptor):
            raise LockedError(f"{folder} is held by {_holder(descriptor)}")
        left_by = _holder(descriptor) if os.fstat(descriptor).st_size else ""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        _write(descriptor, {"pid": os.getpid(), "host": socket.gethostname(), "started": started})
        try:
            yield Lock(descriptor, left_by)
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def is_locked(folder: str) -> bool:
    """Whether a process is at work on ``folder`` now."""
    try:
        descriptor = os.open(lock_file(folder), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _take(descriptor: int) -> bool:
    """Try for a moment: whoever only asks (:func:`is_locked`) has the lock for as long."""
    for attempt in range(ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1 if attempt < ATTEMPTS - 1 else 0.0)
        else:
            return True
    return False


def lock_file(folder: str) -> Path:
    if not is_uri(folder):
        return Path(folder) / LOCK
    name = hashlib.sha256(folder.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"m2m-locks-{os.getuid()}" / f"{name}.json"


def _write(descriptor: int, holder: dict[str, object]) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        text = f"process {holder['pid']} on {holder['host']} since {holder['started']}"
        here = holder["host"] == socket.gethostname()
        return text + (", which died" if here and not Path(f"/proc/{holder['pid']}").exists() else "")
    except (ValueError, KeyError, TypeError):
        return "a process that has only begun"
