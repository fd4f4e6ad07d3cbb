# SPDX-License-Identifier: Apache-2.0
"""When rollouts compute: in short turns on the simulation thread, between the live steps.

A rollout is a chain of slices (one sampling step of a batch, a few decoded frames). A turn runs
slices until somebody else wants the thread, so a live step waits for one slice at most. Turns
are given to the goal of the highest priority; equals alternate after every chunk. In lockstep
a turn may begin whenever no live step runs. In realtime one may begin while the frames that
wait to be published last longer than a slice, and once after each live chunk whatever waits:
so a machine that is too slow for both still serves its goals, and the stream loses one slice
a chunk at most. Batches are as wide as keeps a realtime slice under ``SLICE_SECONDS``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

# A turn ends after so long; then another goal or a live step may come first.
TURN_SECONDS = 0.1
# Of a realtime stream's spare frames (see live_steps.SPARE_FRAMES), what a slice may take.
SLICE_SECONDS = 0.1


class Work(Protocol):
    """What is asked of a rollout's computation (``hydra_model.imagination.Imagination``)."""

    state: Any
    batch: int
    widest: int
    frames_done: int
    frames_total: int
    seconds: dict[str, float]

    def slices(self) -> Iterator[str]:
        """Do the work slice by slice."""

    def results(self) -> list[Any]:
        """Return what came of it."""


class Live(Protocol):
    """What is asked of the live stream."""

    @property
    def spare_seconds(self) -> float | None:
        """Seconds until its next step is due; None while one runs or waits."""

    @property
    def realtime(self) -> bool:
        """Whether it follows the wall clock."""

    @property
    def chunks(self) -> int:
        """Live chunks begun so far."""


class Abandoned(Exception):
    """A rollout that was given up; the message says why."""


@dataclass(eq=False)
class Job:
    """One goal's work, and how far it is.

    ``begin`` makes the work, on the simulation thread. ``done`` is answered on the executor's
    thread with ``Work``, or with what it failed with.
    """

    begin: Callable[[Any], Work]
    priority: int
    done: Future[Work] = field(default_factory=Future)
    accepted: float = field(default_factory=time.monotonic)
    started: float | None = None
    work: Work | None = None
    abandoned: str = ""
    slices: Iterator[str] | None = None
    chunk_done: bool = False  # since the last turn began

    def abandon(self, reason: str) -> None:
        """Give it up before its next slice."""
        self.abandoned = self.abandoned or reason

    @property
    def time_left(self) -> float:
        """Seconds until it is done at the pace so far, waiting included; 0 before any frame."""
        if self.work is None or self.started is None or not self.work.frames_done:
            return 0.0
        pace = (time.monotonic() - self.started) / self.work.frames_done
        return pace * (self.work.frames_total - self.work.frames_done)


class RolloutScheduler:
    """Gives the jobs their turns; belongs to the executor's thread.

    Args:
        call: runs a function of the world on the simulation thread, in turn.
        wanted: whether somebody else waits for that thread; may be asked on any thread.
        live: the live stream.
        post: runs a function soon on the executor's thread.
        widest: most candidates in one batch.
    """

    def __init__(
        self,
        call: Callable[[Callable[[Any], Any]], Future],
        wanted: Callable[[], bool],
        live: Live,
        post: Callable[[Callable[[], None]], None],
        widest: int,
    ) -> None:
        self.widest = widest
        self._call = call
        self._wanted = wanted
        self._live = live
        self._post = post
        self._jobs: list[Job] = []
        self._turn: Future | None = None
        self._width = 1 if live.realtime else widest
        self._slice_seconds = 0.0  # the longest slice of the last turns
        self._served_chunk = -1  # the live chunk after which a turn was given regardless

    @property
    def jobs(self) -> int:
        """Rollouts that run or wait."""
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Take a job; it gets its first turn as soon as one is free."""
        self._jobs.append(job)
        self.pump()

    def abandon_all(self, reason: str) -> None:
        """Give up all jobs."""
        for job in self._jobs:
            job.abandon(reason)
        self.pump()

    def close(self, reason: str) -> None:
        """Give up all jobs at once, without another turn."""
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.done.set_exception(Abandoned(reason))

    def pump(self) -> None:
        """Give the next turn, if one may begin now."""
        if self._turn is not None:
            return
        for job in [job for job in self._jobs if job.abandoned]:
            self._finish(job, Abandoned(job.abandoned))
        if not self._jobs or not self._may_begin():
            return
        job = max(self._jobs, key=lambda job: job.priority)  # the first of equals
        if job.started is None:
            job.started = time.monotonic()
        self._turn = self._call(lambda world: self._run(job, world))
        self._turn.add_done_callback(lambda turn: self._post(lambda: self._turned(job, turn)))

    def _may_begin(self) -> bool:
        spare = self._live.spare_seconds
        if not self._live.realtime:
            return spare is not None
        if spare is not None and spare >= self._slice_seconds:
            return True
        if self._served_chunk != self._live.chunks:
            self._served_chunk = self._live.chunks
            return True
        return False

    def _run(self, job: Job, world: Any) -> bool:
        """Run slices until the turn is over; return whether the job is done."""
        if job.work is None or job.slices is None:
            job.work = job.begin(world)
            job.slices = job.work.slices()
        job.chunk_done = False
        longest = 0.0
        started = now = time.monotonic()
        while not job.abandoned:
            before, frames = now, job.work.frames_done
            job.work.batch = self._width
            if next(job.slices, None) is None:
                return True
            now = time.monotonic()
            longest = max(longest, now - before)
            job.chunk_done = job.work.frames_done > frames
            if job.work.batch < self._width:  # it ran out of memory
                self._width = self.widest = job.work.batch
            spare = self._live.spare_seconds if self._live.realtime else None
            expected = max(longest, self._slice_seconds)
            late = self._live.realtime and (spare is None or spare < expected)
            if self._wanted() or late or job.chunk_done or now - started > TURN_SECONDS:
                break
        self._slice_seconds = max(longest, 0.9 * self._slice_seconds)
        return False

    def _turned(self, job: Job, turn: Future) -> None:
        self._turn = None
        if job not in self._jobs:
            return  # closed meanwhile
        error = turn.exception()
        if error or turn.result():
            self._finish(job, error)
        elif job.chunk_done:
            self._adapt()
            self._jobs.remove(job)
            self._jobs.append(job)
        self.pump()

    def _adapt(self) -> None:
        """Widen or narrow the batches by how long their slices take."""
        if not self._live.realtime or self._slice_seconds < SLICE_SECONDS / 2:
            self._width = min(2 * self._width, self.widest)
        elif self._slice_seconds > SLICE_SECONDS:
            self._width = max(self._width // 2, 1)

    def _finish(self, job: Job, error: BaseException | None = None) -> None:
        self._jobs.remove(job)
        job.slices = None  # with its tensors
        if error:
            job.done.set_exception(error)
        else:
            job.done.set_result(job.work)
