"""Progress on the console: a live bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from training.loop import Event

LINE_SECONDS = 10.0
"""Seconds between plain lines."""


class Display:
    """Shows ``done`` of ``total`` rows with a text; use as a context manager."""

    def __init__(
        self,
        title: str,
        *,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.clock = title, total, clock
        self.console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self.last_line = -LINE_SECONDS
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
        self.bar = Progress(*columns, TimeElapsedColumn(), console=self.console) if self.console.is_terminal else None
        self.task = self.bar.add_task(title, total=total, text="") if self.bar else None

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, done: int, text: str, *, always: bool = False) -> None:
        """``always`` prints a line that stays, whatever the time."""
        if self.bar and self.task is not None:
            self.bar.update(self.task, completed=done, text=text)
            if always:
                self.bar.console.print(f"{self.title}: {text}")
        elif always or self.clock() - self.last_line >= LINE_SECONDS:
            self.last_line = self.clock()
            share = f"{done:,} of {self.total:,}" if self.total else f"{done:,}"
            self.console.print(f"{self.title}: {share}, {text}")


def show_event(display: Display, event: Event, *, epochs: int) -> None:
    """Show what the training loop tells."""
    text = f"epoch {event.epoch + 1} of at most {epochs}, step {event.step}, loss {event.loss:.4f}"
    if event.validation is not None:
        text += f", validation {event.validation:.4f}"
    display.show(event.rows, text, always=event.ends_epoch)
