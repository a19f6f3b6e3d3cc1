"""What a process and all that it started use, from /proc."""

import os
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """Process ids of ``root`` and everything below it."""
    parents = {pid: int(fields[1]) for pid in _all() if (fields := _stat(pid))}
    members = {root}
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return sorted(members)


def memory_bytes(root: int) -> int:
    """Proportional set size: a page that n processes share counts an n-th in each."""
    return sum(_pss(pid) for pid in tree(root))


def cpu_s(root: int) -> float:
    """CPU seconds so far, of processes that have ended and were waited for too."""
    fields = [_stat(pid) for pid in tree(root)]
    return sum(sum(map(int, one[11:15])) for one in fields if one) / TICKS_PER_S


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/pid/stat after the name; none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
