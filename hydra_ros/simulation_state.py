# SPDX-License-Identifier: Apache-2.0
"""Playing, paused, stopped: what the standard calls the state of the simulation, of a session."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from enum import IntEnum
from typing import Any

from hydra_ros.session import Session


class SimulationState(IntEnum):
    """The states of ``simulation_interfaces/SimulationState``."""

    STOPPED = 0
    PLAYING = 1
    PAUSED = 2
    QUITTING = 3
    NO_WORLD = 4
    LOADING_WORLD = 5


class Restart:
    """A world's start: the state that a world began with."""

    continues = False

    def __init__(self, state: Any, description: str) -> None:
        self.description = description
        self.pose = state.pose
        self.seed = state.seed
        self._state = state

    def begin(self, world: Any) -> None:
        """Make it the live world of a ``hydra_model.world.World``."""
        world.restore(self._state)


class SimulationStates:
    """Reads and changes the state of whatever session there is.

    Stopped is paused at the world's beginning, and ends with the first step or with playing.
    """

    def __init__(self, session: Callable[[], Session | None]) -> None:
        self.quitting = False
        self._session = session
        self._stopped_run: int | None = None  # the world that was stopped
        self._stopped_in: Session | None = None

    @property
    def state(self) -> SimulationState:
        """The present state."""
        session = self._session()
        if self.quitting:
            return SimulationState.QUITTING
        if session is None or session.state == "no world":
            return SimulationState.NO_WORLD
        if session.state == "starting":
            return SimulationState.LOADING_WORLD
        if not session.steps.paused:
            # An inactive node is paused by its lifecycle.
            return SimulationState.PLAYING if session.active else SimulationState.PAUSED
        stopped = self._stopped_in is session and self._stopped_run == session.run
        return SimulationState.STOPPED if stopped else SimulationState.PAUSED

    def play(self, session: Session) -> None:
        """Let time go on."""
        self._stopped_run = None
        session.steps.paused = False
        session.steps.pump()

    def pause(self, session: Session) -> None:
        """Let time stand still after the chunk that is being simulated."""
        self._stopped_run = None
        session.steps.paused = True

    def stop_with(self, session: Session, started: Future) -> Future:
        """Be stopped once a world has started, before its first chunk is begun."""

        def stop(done: Future) -> None:
            if not done.exception():
                session.steps.paused = True
                self._stopped_in, self._stopped_run = session, session.run

        started.add_done_callback(stop)
        return started

    @staticmethod
    def restart(session: Session) -> Future:
        """Go back to where the running world began."""
        if session.began is None:
            raise ValueError("no world runs")
        return session.begin(Restart(session.began, session.world))
