"""Wall time, peak memory and Spark's own counts of a contender that runs in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.etl.world import Shape

SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Stage:
    """What the event log says of one stage."""

    number: int
    seconds: tuple[float, ...]
    """Run time of each task."""
    input_bytes: int
    shuffle_bytes: int
    """Written for a shuffle."""
    spill_bytes: int
    """Spilled to disk."""

    @property
    def skew(self) -> float:
        """Slowest task over the median one."""
        return max(self.seconds) / max(statistics.median(self.seconds), 1e-3)


@dataclass(frozen=True)
class Run:
    seconds: float
    peak_rss_mib: float
    stages: tuple[Stage, ...]


def run(contender: str, shape: Shape, *, raw: Path, out: Path, logs: Path | None = None) -> Run:
    """Run one contender; ``logs``: a folder for the Spark event log.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    if logs is not None:
        logs.mkdir(parents=True)
    module = [sys.executable, "-m", "benchmarks.etl.contender"]
    command = [*module, contender, str(raw), str(out), shape.model_dump_json(), *([str(logs)] if logs else [])]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    peak = _PeakMemory(process.pid)
    _, errors = process.communicate()
    seconds = time.perf_counter() - started
    peak.stop()
    if process.returncode:
        sys.stderr.write(errors)
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(seconds, peak.bytes / 2**20, read_stages(logs) if logs else ())


class _PeakMemory:
    """Largest sum of resident memory over a process and all below it, sampled. Shared pages count for each."""

    def __init__(self, root: int) -> None:
        self.bytes, self._root, self._done = 0, root, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.bytes = max(self.bytes, _tree_rss(self._root))


def _tree_rss(root: int) -> int:
    children, rss = defaultdict(list), {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        children[int(fields[1])].append(int(entry))
        rss[int(entry)] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    total, pending = 0, [root]
    while pending:
        process = pending.pop()
        total += rss.get(process, 0)
        pending += children[process]
    return total


def read_stages(logs: Path) -> tuple[Stage, ...]:
    """Stages of the one event log in ``logs``, in order of number."""
    tasks = defaultdict(list)
    (log,) = (path for path in logs.iterdir() if not path.name.endswith(".inprogress"))
    for line in log.open():
        if line.startswith('{"Event":"SparkListenerTaskEnd"'):
            event = json.loads(line)
            tasks[event["Stage ID"]].append(event["Task Metrics"])
    return tuple(
        Stage(
            number=number,
            seconds=tuple(metrics["Executor Run Time"] / 1000 for metrics in ended),
            input_bytes=sum(metrics["Input Metrics"]["Bytes Read"] for metrics in ended),
            shuffle_bytes=sum(metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"] for metrics in ended),
            spill_bytes=sum(metrics["Disk Bytes Spilled"] for metrics in ended),
        )
        for number, ended in sorted(tasks.items())
    )
