"""Processes that were started by a test, and ending them the hard way."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import ray

Found = TypeVar("Found")
WAIT_SECONDS = 600
ATTEMPTS = 5


def descendants(process: int) -> list[int]:
    """Of living processes, parents first."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in parentheses may hold anything; state and parent follow it.
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(stat.parent.name))
    found = [process]
    for one in found:
        found += parents.get(one, [])
    return found[1:]


def title(process: int) -> str:
    """Its command line; empty for what has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def named(start: str, *, under: int) -> list[int]:
    """Descendants of ``under`` whose command lines hold ``start``."""
    return [process for process in descendants(under) if start in title(process)]


def kill_tree(process: int) -> None:
    """A machine that is gone: the process and all below it; nothing where it has been waited for."""
    if not title(process):
        return
    family = [process, *descendants(process)]
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


def wait_for(what: Callable[[], Found | None], *, seconds: float = WAIT_SECONDS, why: str = "") -> Found:
    """The first true value of ``what``."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, why or "waited in vain"
        time.sleep(0.005)
    return found


def patiently(start: Callable[[], Found]) -> Found:
    """Ray gives a node 30 s to start, which on a busy machine it may not manage."""
    for _ in range(1, ATTEMPTS):
        before = set(descendants(os.getpid()))
        try:
            return start()
        except Exception as error:  # Ray's own has no other type
            print(f"starting again: {error}")
            ray.shutdown()
            for process in set(descendants(os.getpid())) - before:
                kill_tree(process)
    return start()


@contextlib.contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    """A Ray cluster that lives as long as the block."""
    patiently(lambda: ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False))
    try:
        yield
    finally:
        ray.shutdown()
