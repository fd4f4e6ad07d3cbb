# SPDX-License-Identifier: Apache-2.0
"""What a command does, on a terminal as a bar and elsewhere as a line per second."""

from __future__ import annotations

import sys
import time
from typing import TextIO

SHORTEST_WAIT = 1.0  # seconds between two lines of one stage


class ProgressReport:
    """Stages one after the other, each with a number of items done, to ``stream`` (stdout)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._bar = None
        if self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[count]}"),
                TimeElapsedColumn(),
                console=Console(file=self._stream),
            )
            self._bar.start()
        self._task = None
        self._stage = ""
        self._done, self._total = 0, None
        self._started = self._last_line = 0.0

    def __enter__(self) -> ProgressReport:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._finish()
        if self._bar:
            self._bar.stop()

    def stage(self, text: str, total: int | None = None) -> None:
        """Begin a stage, of ``total`` items if their number is known; the former one is done."""
        self._finish()
        self._stage, self._done, self._total = text, 0, total
        self._started = self._last_line = time.monotonic()
        if self._bar:
            self._task = self._bar.add_task(text, total=total, count=self._count())
        else:
            self._line(text + " ...")

    def update(self, done: int = 0) -> None:
        """Say how many items of the stage are done; call it also while only time goes by."""
        changed = done != self._done
        self._done = done
        if self._bar:
            if changed:
                self._bar.update(self._task, completed=done, count=self._count())
        elif time.monotonic() - self._last_line >= SHORTEST_WAIT:
            self._last_line = time.monotonic()
            self._line(f"{self._stage}: {self._count() or 'still busy'} ({self._elapsed()})")

    def say(self, text: str) -> None:
        """Print a line of its own."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._line(text)

    def _finish(self) -> None:
        if not self._stage:
            return
        if self._bar:
            total = self._total or 1
            self._bar.update(self._task, total=total, completed=total, count=self._count())
            self._bar.stop_task(self._task)
        elif self._total:
            self._line(f"{self._stage}: {self._count()} ({self._elapsed()})")
        self._stage = ""

    def _count(self) -> str:
        if self._total:
            return f"{self._done}/{self._total}"
        return str(self._done) if self._done else ""

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._started:.1f} s"

    def _line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)
