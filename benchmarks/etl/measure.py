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

SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class Stage:
    """What the event log says of one stage."""

    number: int
    name: str
    """What asked for it, and where."""
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
    cpu_seconds: float
    """Of all its processes: steadier than ``seconds`` where a machine is shared."""
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
    usage = _Usage(process.pid)
    _, errors = process.communicate()
    seconds = time.perf_counter() - started
    usage.stop()
    if process.returncode:
        sys.stderr.write(errors)
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(seconds, usage.cpu_seconds, usage.peak_rss / 2**20, read_stages(logs) if logs else ())


class _Usage:
    """What a process and all below it use, sampled: the largest sum of resident memory (shared pages count for each),
    and processor time."""

    def __init__(self, root: int) -> None:
        self.peak_rss, self._ticks, self._root, self._done = 0, dict[int, int](), root, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    @property
    def cpu_seconds(self) -> float:
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            processes = _descendants(self._root)
            self.peak_rss = max(self.peak_rss, sum(rss for _, rss in processes.values()))
            self._ticks.update({process: ticks for process, (ticks, _) in processes.items()})


def _descendants(root: int) -> dict[int, tuple[int, int]]:
    """Processor ticks and resident bytes of ``root`` and every process below it."""
    children, usage = defaultdict(list), {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        children[int(fields[1])].append(int(entry))
        usage[int(entry)] = int(fields[11]) + int(fields[12]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    found, pending = {}, [root]
    while pending:
        process = pending.pop()
        if process in usage:
            found[process] = usage[process]
        pending += children[process]
    return found


def read_stages(logs: Path) -> tuple[Stage, ...]:
    """Stages of the one event log in ``logs``, in order of number."""
    tasks, names = defaultdict(list), {}
    (log,) = (path for path in logs.iterdir() if not path.name.endswith(".inprogress"))
    for line in log.open():
        if line.startswith('{"Event":"SparkListenerTaskEnd"'):
            event = json.loads(line)
            tasks[event["Stage ID"]].append(event["Task Metrics"])
        elif line.startswith('{"Event":"SparkListenerStageCompleted"'):
            info = json.loads(line)["Stage Info"]
            names[info["Stage ID"]] = info["Stage Name"].replace(f"{Path.cwd()}/", "")
    return tuple(
        Stage(
            number=number,
            name=names[number],
            seconds=tuple(metrics["Executor Run Time"] / 1000 for metrics in ended),
            input_bytes=sum(metrics["Input Metrics"]["Bytes Read"] for metrics in ended),
            shuffle_bytes=sum(metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"] for metrics in ended),
            spill_bytes=sum(metrics["Disk Bytes Spilled"] for metrics in ended),
        )
        for number, ended in sorted(tasks.items())
    )
