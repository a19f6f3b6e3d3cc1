"""A process that trains through Ray Train on the cluster of RAY_ADDRESS, and writes down every step.

``python -m tests.faults.trainer DATASET STORAGE EVENTS RESULT MODEL WORKERS EPOCHS`` resumes what lies in STORAGE. A
line of EVENTS is the time and the step; RESULT gets the hash of the last weights and the losses of all epochs, and the
model is published at MODEL.
"""

import hashlib
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import training.ray_train
from tests.training.test_ray_train import ROWS, job
from tests.training.tiny import same_rules
from training.board import Board
from training.checkpoint import publish_model
from training.cluster import connected
from training.config import ClusterConfig
from training.loop import Event, Snapshot


def recording(path: Path) -> type[Board]:
    class Recording(Board):
        def put(self, event: Event) -> None:
            super().put(event)
            if event.validation is None:
                with path.open("a") as stream:
                    stream.write(f"{time.time()} {event.step}\n")

    return Recording


def steps(path: Path) -> list[tuple[float, int]]:
    """(time, step) of all events so far; the last line may be half written."""
    lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [(float(moment), int(step)) for moment, step in (line.split() for line in lines)]


def result(snapshot: Snapshot) -> str:
    digest = hashlib.sha256()
    for name, weights in sorted(snapshot.model.items()):
        digest.update(name.encode() + weights.numpy().tobytes())
    return json.dumps([digest.hexdigest(), [asdict(losses) for losses in snapshot.state.history]])


def main(dataset: str, storage: str, events: str, out: str, model: str, workers: str, epochs: str) -> None:
    training.ray_train.Board = recording(Path(events))  # type: ignore[misc]
    work = job(Path(dataset), Path(storage), workers=int(workers), epochs=int(epochs))
    # Row groups one by one, so that every rank has some.
    reader = work.config.reader.model_copy(update={"shuffle_blocks": 1})
    work = replace(work, config=work.config.model_copy(update={"reader": reader}))
    with connected(ClusterConfig()):
        snapshot = training.ray_train.train(work, resume=True, rows=ROWS)
    Path(out).write_text(result(snapshot))
    rules = same_rules(0.5, 0.9)
    publish_model(model, snapshot=snapshot, spec=work.spec, content=work.content, rules=rules, grace_seconds=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
