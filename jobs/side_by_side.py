"""Independent parts of a study as processes of one thread each, so many at a time."""

import argparse
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence

from training.allocator import HUGE_PAGES


def count(text: str) -> int:
    """A number of processes, as an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, however: {text}")
    return int(text)


def run_all(commands: Mapping[str, Sequence[str]], *, processes: int, what: str) -> int:
    """Run the commands, by name, and say how long the rest will take; a process status, 1 if any failed.

    Those that fail are named at the end; what the others saved is kept. Ctrl-C ends them too.
    """
    waiting, running, failed = deque(commands), dict[str, subprocess.Popen[bytes]](), []
    done, started = 0, time.monotonic()
    environment = HUGE_PAGES | os.environ | {"OMP_NUM_THREADS": "1"}
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                name = waiting.popleft()
                running[name] = subprocess.Popen(commands[name], env=environment)
            time.sleep(0.2)
            for name, process in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                done += 1
                if process.returncode:
                    failed.append(name)
                left = (time.monotonic() - started) / done * (len(commands) - done) / 60
                print(f"{done} of {len(commands)} {what}, about {left:.0f} minutes left", flush=True)
    finally:
        for process in running.values():
            process.terminate()
    if failed:
        print(f"error: {len(failed)} {what} failed ({', '.join(failed)}); the others are saved", file=sys.stderr)
    return 1 if failed else 0
