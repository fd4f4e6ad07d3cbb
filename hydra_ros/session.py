# SPDX-License-Identifier: Apache-2.0
"""A loaded model and the world that runs in it: which one it is, and what it is told.

It computes nothing and never waits. All of it belongs to the executor's thread: what other
threads report comes back through ``post``.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger

from hydra_ros.commands import Command, CommandError
from hydra_ros.context_preparer import STATE, ContextPreparer
from hydra_ros.diagnostics import Counters, Status
from hydra_ros.frame_publisher import FramePublisher
from hydra_ros.live_steps import LiveSteps
from hydra_ros.memory_publisher import MemoryPublisher
from hydra_ros.observation_clips import Observation, ObservedClip
from hydra_ros.parameters import Settings
from hydra_ros.simulation_thread import (
    Cancelled,
    FrameBatch,
    SimulationThread,
    Start,
    StepResult,
    WorldFacts,
)
from hydra_ros.starting_world import ContextFormat
from hydra_ros.state_keeper import AUTOSAVE, StateKeeper
from hydra_ros.state_store import StateError, StateFacts
from hydra_ros.world_starts import WorldStarts


class Session:
    """Starts, replaces, saves and ends worlds; what happens in one is up to ``steps``.

    Args:
        settings: the node's parameters; replaced as they change.
        load: builds the world on the simulation thread.
        publisher: publishes the frames of the world that runs.
        on_frames: gets the frames, on the simulation thread, and gives them to the publisher.
        memory: shows what is remembered.
        on_observed: gets the observations that are in the memory.
        post: runs a function soon on the executor's thread; may be called from any thread.
        counters: counts what was dropped.
        logger: the node's.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[Callable[..., None]], Any],
        publisher: FramePublisher,
        on_frames: Callable[[FrameBatch], None],
        memory: MemoryPublisher,
        on_observed: Callable[[ObservedClip], None],
        post: Callable[[Callable[[], None]], None],
        counters: Counters,
        logger: RcutilsLogger,
    ) -> None:
        self.settings = settings
        self.publisher = publisher
        self.began: Any = None  # the snapshot that the world began with; commits are no beginning
        self.worlds = 0  # begun, or tried to; a commit goes on in the same
        self._world = ""  # description of the world that runs
        self._on_frames = on_frames
        self._memory = memory
        self._counters = counters
        self._logger = logger
        self._thread = SimulationThread(load, on_frames)
        self.states = StateKeeper(settings.states_folder, lambda: self._thread.world, logger)
        self._preparer = ContextPreparer(self.states.store)
        self._held: deque[Command] = deque()
        self._starts = WorldStarts(
            self._thread,
            post,
            replace=self._replace_world,
            replaced=self._world_replaced,
            answered=self._world_settled,
        )
        self.steps = LiveSteps(
            settings,
            self._thread,
            publisher,
            memory,
            post,
            counters,
            logger,
            replacing=lambda: self._starts.replacing,
            committed=self._autosave,
            on_observed=on_observed,
        )

    @property
    def loaded(self) -> Future[WorldFacts]:
        """Done when the model is loaded, or failed with what went wrong."""
        return self._thread.loaded

    @property
    def form(self) -> ContextFormat:
        """What the running world needs of pictures."""
        facts = self.facts
        return ContextFormat(
            frames=facts.context_frames,
            height=facts.height,
            width=facts.width,
            fps=facts.fps,
            fov_x=facts.fov_x,
            world_style=facts.world_style,
        )

    @property
    def facts(self) -> WorldFacts | None:
        """The world after the last thing that happened to it; None before the model is loaded."""
        return self.steps.facts

    @property
    def active(self) -> bool:
        """Whether time goes on."""
        return self.steps.active

    @property
    def state(self) -> str:
        """What the session does: starting, running, paused or no world."""
        if self._starts.pending:
            return "starting"
        if not self.steps.begun:
            return "no world"
        return "paused" if self.steps.paused else "running"

    @property
    def world(self) -> str:
        """What world runs, in words."""
        return self._world

    @property
    def run(self) -> int:
        """Number of the world that runs; every start, load and commit is another."""
        return self.steps.run

    @property
    def thread(self) -> SimulationThread:
        """The thread that owns the model."""
        return self._thread

    def status(self) -> Status:
        """Return what /diagnostics says."""
        facts, publisher, steps = self.facts, self.publisher, self.steps
        factor = steps.times.factor
        if factor is not None and steps.realtime:
            factor = publisher.rate.rate(time.monotonic()) / facts.fps
        return Status(
            state=self.state if self.active else "inactive",
            mode=self.settings.mode,
            counters=self._counters,
            model=facts.name,
            device=facts.device,
            world=self._world,
            real_time_factor=factor,
            latency=publisher.latency,
            chunk_seconds=steps.times.chunk_seconds,
            simulated_time=facts.time,
            memory_size=facts.memory_size,
            memory_bytes=facts.memory_bytes,
            memory_device_bytes=facts.usage.device_bytes,
            memory_host_bytes=facts.usage.host_bytes,
            memory_disk_bytes=facts.usage.disk_bytes,
            frames_published=publisher.published,
            frames_waiting=publisher.waiting,
            frames_commanded=steps.commanded_frames,
            problem=steps.problem,
        )

    def model_loaded(self, facts: WorldFacts) -> None:
        """Go on after ``loaded`` is done."""
        self.steps.facts = facts
        self.check_settings(self.settings)

    def check_settings(self, settings: Settings) -> None:
        """Check parameters against the loaded model.

        Raises:
            ValueError: one that this model does not allow.
        """
        facts = self.facts
        if facts and settings.chunk_frames > facts.max_chunk_frames:
            raise ValueError(
                f"chunk_frames is {settings.chunk_frames}; the model {facts.name!r} makes "
                f"at most {facts.max_chunk_frames} frames at once"
            )

    def change_settings(self, settings: Settings) -> None:
        """Take over changed parameters; they hold for what is planned from now on."""
        if settings.memory_policy != self.settings.memory_policy:
            policy = settings.memory_policy
            self._thread.call(lambda world: setattr(world, "memory_policy", policy))
        self.settings = settings
        self.steps.change_settings(settings)

    def activate(self) -> None:
        """Let time go on; the first time, start the configured world."""
        self.steps.active = True
        resume = self.settings.resume and self.states.resumable()
        source = STATE + AUTOSAVE if resume else ""
        wanted = source or self.settings.start_source != "none"
        if not self.steps.begun and not self._starts.pending and wanted:
            start = self.start_world(source, 0, "")
            start.add_done_callback(self._report_failed_start)
        self.steps.pump()

    def deactivate(self) -> None:
        """Pause: the chunk that is being simulated is finished, nothing follows it."""
        self.steps.active = False

    def close(self) -> None:
        """Abandon everything and free the model."""
        self.steps.active = False
        self.publisher.drop_run()
        self._preparer.close()
        self._autosave()
        self.states.close()
        self._thread.close()
        self._starts.close()
        self.steps.close()

    # --- Worlds ---

    def start_world(self, source: str, seed: int, prompt: str) -> Future[Start]:
        """Start a world: "procedural", a clip's name, "state:NAME", "" for the configured source.

        Seed 0 with an empty source is the configured seed; an empty prompt the configured one.
        The future is answered on the executor's thread. The running world goes on until the
        new one's context is there; if that fails, nothing has changed.
        """
        prepared = self._preparer.prepare(source, seed, prompt, self.settings, self.facts)
        return self._starts.add(prepared)

    def begin(self, start: Start) -> Future[Start]:
        """Start a world from something that is ready; answered as by ``start_world``."""
        ready: Future[Start] = Future()
        ready.set_result(start)
        return self._starts.add(ready)

    def saved_state(self, name: str) -> Future[Any]:
        """Return the snapshot of a saved state in future; the live world goes on."""
        found: Future[Any] = Future()

        def read(done: Future[Start]) -> None:
            error = done.exception()
            found.set_exception(error) if error else found.set_result(done.result().snapshot)

        prepared = self._preparer.prepare(STATE + name, 0, "", self.settings, self.facts)
        prepared.add_done_callback(read)
        return found

    def show(self, frames: FrameBatch, pose: np.ndarray) -> None:
        """Publish frames that end where the world now is, before those of its next chunk.

        ``pose`` [4, 4] is the optical pose before the first of them.
        """
        before = float(frames.times[0]) - 1.0 / self.facts.fps
        facts = dataclasses.replace(self.facts, pose=pose, time=before)
        self.publisher.start_run(self.run, facts)
        self._on_frames(frames)

    def _replace_world(self, start: Start) -> None:
        self._counters.dropped += self.steps.commanded_frames
        self.steps.run += 1
        if not start.continues:
            self.worlds += 1
        self.publisher.drop_run()

    def _world_replaced(self, start: Start, facts: WorldFacts | None) -> None:
        if facts:
            self.steps.facts = facts
            self._world = start.description
            if not start.continues:
                self.began = facts.state
            self.steps.problem = ""
            self._memory.start_world()
            self._logger.info(f"started {start.description}")
        if self.facts.pose is not None and not self._starts.replacing:
            # The new world, or the old one where the new one's context was refused.
            self.steps.begin()

    def _world_settled(self) -> None:
        self._take_held()
        self.steps.pump()

    def _report_failed_start(self, started: Future[Start]) -> None:
        error = started.exception()
        if error and not isinstance(error, Cancelled):
            self.steps.problem = f"no world was started: {error}"
            self._logger.error(self.steps.problem)

    # --- States ---

    def save_state(self, name: str, *, overwrite: bool, persistent: bool) -> Future[StateFacts]:
        """Save the world as it was when its last chunk was committed, whatever runs now.

        Raises:
            StateError: there is no world, or one is being started.
        """
        if not self.steps.begun or self._starts.replacing:
            raise StateError("no world runs; start one, or wait until it has started")
        return self.states.save(
            name, self._thread.committed, self._world, overwrite=overwrite, persistent=persistent
        )

    def _autosave(self) -> None:
        committed = self._thread.committed
        begun = self.steps.begun and not self._starts.replacing
        if self.settings.autosave and committed and begun:
            self.states.autosave(committed, self._world)

    # --- Commands ---

    def add(self, command: Command) -> None:
        """Take a checked command.

        Raises:
            CommandError: it cannot be followed now.
        """
        if not self.active:
            raise CommandError("not active", "the simulator is not active; activate it first")
        if self._starts.pending:
            # Where the camera will be is not known yet; the world that still runs is given up.
            if len(self._held) >= self.settings.max_pending_frames:
                raise CommandError(
                    "queue full", "too many commands while a world is being started; dropped"
                )
            self._held.append(command)
            return
        if not self.steps.begun:
            raise CommandError("no world", "no world was started; call ~/reset first")
        self.steps.add(command)

    def observe(self, observation: Observation) -> None:
        """Take a real picture with its pose; it is the world's next frame after the present chunk.

        Raises:
            CommandError: there is no world that it could belong to now.
        """
        if not self.active:
            raise CommandError("not active", "the simulator is not active; activate it first")
        if not self.steps.begun or self._starts.replacing:
            raise CommandError("no world", "no world runs; start one, or wait until it has started")
        self.steps.observe(observation)

    def advance(self, count: int) -> Future[StepResult]:
        """Simulate the next ``count`` frames, one chunk, while paused; commanded ones come first.

        Raises:
            ValueError: time cannot go on now.
        """
        if not self.active or not self.steps.begun or self._starts.pending:
            raise ValueError("no world runs")
        return self.steps.advance(count)

    def _take_held(self) -> None:
        if self._starts.pending:
            return
        held, self._held = self._held, deque()
        for command in held:
            try:
                self.add(command)
            except CommandError as error:
                self._counters.dropped += 1
                self._logger.error(f"a command that waited for the world was refused: {error}")
