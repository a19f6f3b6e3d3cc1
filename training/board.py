"""From the training workers to the driver's display: a small actor holds the newest events, a thread shows them."""

import contextlib
import threading
from typing import Any

import ray

from training.loop import Event
from training.progress import Display, show_event

POLL_SECONDS = 0.5


class Board:
    """The newest event of rank 0, for the driver to look at; runs as an actor."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        # Every epoch's end is shown; of the steps between, the newest.
        if self.events and not self.events[-1].ends_epoch:
            self.events.pop()
        self.events.append(event)

    def take(self) -> list[Event]:
        taken, self.events = self.events, []
        return taken


class watching:  # noqa: N801 - reads as a verb in a with statement
    """Shows what the board holds until the block ends."""

    def __init__(self, board: Any, display: Display, *, epochs: int) -> None:
        self.board, self.display, self.epochs = board, display, epochs
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.over.wait(POLL_SECONDS):
            self._show()

    def _show(self) -> None:
        # A board that died with its node starts again on another one, without the events it had.
        with contextlib.suppress(ray.exceptions.RayActorError):
            for event in ray.get(self.board.take.remote()):
                show_event(self.display, event, epochs=self.epochs)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, kind: object, *rest: object) -> None:
        self.over.set()
        self.thread.join()
        if kind is None:
            self._show()
