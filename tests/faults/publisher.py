"""A process that publishes generations, each in a fork of its own that dies where it is told to.

``python -m tests.faults.publisher`` takes JSON lines [what, location, number, line]: the fork kills itself before the
``line``-th line of ``m2m_model/contracts/store.py`` that it would execute. It answers with a JSON line: the fork's exit
status, the functions that the executed lines belong to, and what it raised.
"""

import datetime
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from m2m_model.contracts import store
from m2m_model.zoo.registry import build_model
from tests.training.tiny import MODEL, SPEC, same_rules
from training.checkpoint import publish_model, run_content
from training.config import TrainingConfig
from training.loop import LoopState, Snapshot

ROWS, FILES = 150, 3
DAY = datetime.date(2017, 3, 1)


class Published(NamedTuple):
    status: int
    lines: list[str]
    error: str


def rows(number: int, part: int) -> pa.Table:
    ids = [f"advertiser {part * ROWS + row}" for row in range(ROWS)]
    return pa.table(
        {
            "advertiser_id": ids,
            "scenario_id": ["feed"] * ROWS,
            "as_of": pa.array([DAY] * ROWS, pa.date32()),
            "number": [number] * ROWS,
        }
    )


def publish_rows(location: str, number: int) -> None:
    """``FILES`` files of rows that know the generation's number."""
    folder, generation = store.Folder.at(location), store.new_generation()
    files = []
    for part in range(FILES):
        buffer = pa.BufferOutputStream()
        pq.write_table(rows(number, part), buffer)
        path = store.data_path(generation, f"part-{part}.parquet")
        entry = folder.write_bytes(path, buffer.getvalue().to_pybytes())
        files.append(entry.model_copy(update={"rows": ROWS}))
    content = {"number": number}
    manifest = store.Manifest(kind="dataset", generation=generation, created_at="", files=tuple(files), content=content)
    store.publish(folder, manifest)
    store.remove_superseded(folder, live=generation, grace_seconds=0)


def publish_weights(location: str, number: int) -> None:
    """A model whose best loss is the generation's number."""
    torch.manual_seed(number)
    publish_model(
        location,
        snapshot=Snapshot(
            model=build_model(MODEL, SPEC).state_dict(), optimizer={}, state=LoopState(best_loss=float(number))
        ),
        spec=SPEC,
        content=run_content(MODEL, TrainingConfig(), dataset_generation="g"),
        rules=same_rules(0.5, 0.9),
        grace_seconds=0,
    )


PUBLISHERS: dict[str, Callable[[str, int], None]] = {"rows": publish_rows, "model": publish_weights}


def traced(die_at: int | None, lines: list[str]) -> Callable[[FrameType, str, Any], Any]:
    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != store.__file__:
            return None
        if event == "line":
            if len(lines) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            lines.append(frame.f_code.co_name)
        return trace

    return trace


def attempt(what: str, location: str, number: int, die_at: int | None) -> Published:
    """Publish in a fork; its exit status is negative if a signal ended it."""
    receive, send = os.pipe()
    if child := os.fork():
        os.close(send)
        with os.fdopen(receive) as stream:
            words = stream.read()
        lines, error = json.loads(words) if words else ([], "")
        return Published(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lines, error)
    lines, error = [], ""
    sys.settrace(traced(die_at, lines))
    try:
        PUBLISHERS[what](location, number)
    except OSError as raised:
        error = str(raised)
    sys.settrace(None)
    with os.fdopen(send, "w") as stream:
        json.dump((lines, error), stream)
    os._exit(bool(error))


class Publisher:
    """The process, from the test's side."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.faults.publisher"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, what: str, location: Path, number: int, die_at: int | None = None) -> Published:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([what, str(location), number, die_at]), file=self.process.stdin, flush=True)
        return Published(*json.loads(self.process.stdout.readline()))


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(attempt(*json.loads(line))), flush=True)
