# SPDX-License-Identifier: Apache-2.0
"""Worlds that are being started: each is prepared beside the live one, then takes its place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from hydra_ros.simulation_thread import Cancelled, SimulationThread, Start, WorldFacts


class WorldStarts:
    """Brings starts to the simulation thread and answers whoever asked for them.

    All of it belongs to the executor's thread, and nothing waits.

    Args:
        thread: runs the world.
        post: runs a function soon on the executor's thread; may be called from any thread.
        replace: gets a start when the live world is about to be replaced by it.
        replaced: gets a start and the facts of the world after it, None where it was refused;
            the former world then goes on.
        answered: called after each answer.
    """

    def __init__(
        self,
        thread: SimulationThread,
        post: Callable[[Callable[[], None]], None],
        *,
        replace: Callable[[Start], None],
        replaced: Callable[[Start, WorldFacts | None], None],
        answered: Callable[[], None],
    ) -> None:
        self._thread = thread
        self._post = post
        self._replace = replace
        self._replaced = replaced
        self._answered = answered
        self._waiting: list[Future[Start]] = []
        self._replacing = 0

    @property
    def pending(self) -> bool:
        """Whether a start was asked for and is not answered yet."""
        return bool(self._waiting)

    @property
    def replacing(self) -> bool:
        """Whether one of them has reached the simulation thread."""
        return self._replacing > 0

    def add(self, prepared: Future[Start]) -> Future[Start]:
        """Start a world as soon as it is prepared; if that fails, nothing has changed."""
        started: Future[Start] = Future()
        self._waiting.append(started)
        prepared.add_done_callback(lambda done: self._post(lambda: self._prepared(done, started)))
        return started

    def close(self) -> None:
        """Answer all that wait: they were abandoned."""
        for started in self._waiting:
            started.set_exception(Cancelled("the simulator was shut down or cleaned up"))
        self._waiting.clear()

    def _prepared(self, prepared: Future[Start], started: Future[Start]) -> None:
        if started.done():
            return  # closed meanwhile
        if prepared.exception():
            self._answer(started, prepared)
            return
        start = prepared.result()
        self._replace(start)
        self._replacing += 1
        reset = self._thread.reset(start)
        reset.add_done_callback(
            lambda done: self._post(lambda: self._reset(done, prepared, started))
        )

    def _reset(
        self, reset: Future[WorldFacts], prepared: Future[Start], started: Future[Start]
    ) -> None:
        if started.done():
            return
        self._replacing -= 1
        self._replaced(prepared.result(), None if reset.exception() else reset.result())
        self._answer(started, reset if reset.exception() else prepared)

    def _answer(self, started: Future[Start], outcome: Future) -> None:
        self._waiting.remove(started)
        if error := outcome.exception():
            started.set_exception(error)
        else:
            started.set_result(outcome.result())
        self._answered()
