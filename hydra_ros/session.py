# SPDX-License-Identifier: Apache-2.0
"""A loaded model and the world that runs in it: commands in, chunks to the simulation thread.

The session decides what happens next; it computes nothing and never waits. All of it belongs
to the executor's thread: what other threads report comes back through ``post``.
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

from hydra_ros.commands import Command, CommandError, VelocityCommand
from hydra_ros.context_preparer import STATE, ContextPreparer
from hydra_ros.diagnostics import Counters, Status
from hydra_ros.frame_publisher import FramePublisher
from hydra_ros.memory_publisher import MemoryPublisher
from hydra_ros.observation_clips import ClipCollector, Observation, ObservedClip
from hydra_ros.parameters import Settings
from hydra_ros.planners import (
    LockstepPlanner,
    PlannedChunk,
    Planner,
    PlannerSettings,
    RealtimePlanner,
)
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

# Seconds without an observation after which those that wait are a clip of their own.
CLIP_PATIENCE = 0.3

REALTIME_CHUNK = 17  # frames; about one second

# Frames that must still wait when the next chunk's first frame comes, against jitter.
SPARE_FRAMES = 2


class Session:
    """Wires commands, planner, simulation thread and publisher together.

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
        self.active = False
        self.paused = False  # time stands still but for ``advance``
        self.chunks = 0  # live chunks begun
        self.began: Any = None  # the snapshot that the world began with; commits are no beginning
        self._world = ""  # description of the world that runs
        self._problem = ""
        self._chunk_seconds = 0.0
        self._step_factor: float | None = None  # seconds simulated per second of computing
        self._publisher = publisher
        self._on_frames = on_frames
        self._memory = memory
        self._on_observed = on_observed
        self._post = post
        self._counters = counters
        self._logger = logger
        self._thread = SimulationThread(load, on_frames)
        self.states = StateKeeper(settings.states_folder, lambda: self._thread.world, logger)
        self._preparer = ContextPreparer(self.states.store)
        self._facts: WorldFacts | None = None
        self._planner: Planner | None = None
        self._held: deque[Command] = deque()
        self._starts = WorldStarts(
            self._thread,
            post,
            replace=self._replace_world,
            replaced=self._world_replaced,
            answered=self._world_settled,
        )
        self._run = 0
        self._clips: ClipCollector | None = None  # of the running world
        self._step: Future[StepResult] | Future[WorldFacts] | None = None  # under way
        self._standing = False  # that step shows the camera as it stands, for want of a command
        self._stalled = False  # a step failed: realtime waits for the next command
        self._first_frame_seconds: deque[float] = deque(maxlen=3)

    @property
    def loaded(self) -> Future[WorldFacts]:
        """Done when the model is loaded, or failed with what went wrong."""
        return self._thread.loaded

    @property
    def form(self) -> ContextFormat:
        """What the running world needs of pictures."""
        facts = self._facts
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
        return self._facts

    @property
    def state(self) -> str:
        """What the session does: starting, running, paused or no world."""
        if self._starts.pending:
            return "starting"
        if not self._planner:
            return "no world"
        return "paused" if self.paused else "running"

    @property
    def world(self) -> str:
        """What world runs, in words."""
        return self._world

    @property
    def run(self) -> int:
        """Number of the world that runs; every start, load and commit is another."""
        return self._run

    @property
    def thread(self) -> SimulationThread:
        """The thread that owns the model."""
        return self._thread

    def status(self) -> Status:
        """Return what /diagnostics says."""
        facts, publisher = self._facts, self._publisher
        factor = self._step_factor
        if factor is not None and self.settings.mode == "realtime":
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
            chunk_seconds=self._chunk_seconds,
            simulated_time=facts.time,
            memory_size=facts.memory_size,
            memory_bytes=facts.memory_bytes,
            memory_device_bytes=facts.usage.device_bytes,
            memory_host_bytes=facts.usage.host_bytes,
            memory_disk_bytes=facts.usage.disk_bytes,
            frames_published=publisher.published,
            frames_waiting=publisher.waiting,
            frames_commanded=self._commanded_frames(),
            problem=self._problem,
        )

    def model_loaded(self, facts: WorldFacts) -> None:
        """Go on after ``loaded`` is done."""
        self._facts = facts
        self.check_settings(self.settings)

    def check_settings(self, settings: Settings) -> None:
        """Check parameters against the loaded model.

        Raises:
            ValueError: one that this model does not allow.
        """
        if self._facts and settings.chunk_frames > self._facts.max_chunk_frames:
            raise ValueError(
                f"chunk_frames is {settings.chunk_frames}; the model {self._facts.name!r} makes "
                f"at most {self._facts.max_chunk_frames} frames at once"
            )

    def change_settings(self, settings: Settings) -> None:
        """Take over changed parameters; they hold for what is planned from now on."""
        if settings.memory_policy != self.settings.memory_policy:
            policy = settings.memory_policy
            self._thread.call(lambda world: setattr(world, "memory_policy", policy))
        self.settings = settings
        if self._clips is not None:
            self._clips.longest = settings.observation_clip_frames
        if self._planner:
            self._planner.settings = self._planner_settings()

    def activate(self) -> None:
        """Let time go on; the first time, start the configured world."""
        self.active = True
        resume = self.settings.resume and self.states.resumable()
        source = STATE + AUTOSAVE if resume else ""
        wanted = source or self.settings.start_source != "none"
        if not self._planner and not self._starts.pending and wanted:
            start = self.start_world(source, 0, "")
            start.add_done_callback(self._report_failed_start)
        self.pump()

    def deactivate(self) -> None:
        """Pause: the chunk that is being simulated is finished, nothing follows it."""
        self.active = False

    def close(self) -> None:
        """Abandon everything and free the model."""
        self.active = False
        self._publisher.drop_run()
        self._preparer.close()
        self._autosave()
        self.states.close()
        self._thread.close()
        self._starts.close()
        self._planner = None

    # --- Worlds ---

    def start_world(self, source: str, seed: int, prompt: str) -> Future[Start]:
        """Start a world: "procedural", a clip's name, "state:NAME", "" for the configured source.

        Seed 0 with an empty source is the configured seed; an empty prompt the configured one.
        The future is answered on the executor's thread. The running world goes on until the
        new one's context is there; if that fails, nothing has changed.
        """
        prepared = self._preparer.prepare(source, seed, prompt, self.settings, self._facts)
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

        prepared = self._preparer.prepare(STATE + name, 0, "", self.settings, self._facts)
        prepared.add_done_callback(read)
        return found

    def show(self, frames: FrameBatch, pose: np.ndarray) -> None:
        """Publish frames that end where the world now is, before those of its next chunk.

        ``pose`` [4, 4] is the optical pose before the first of them.
        """
        before = float(frames.times[0]) - 1.0 / self._facts.fps
        facts = dataclasses.replace(self._facts, pose=pose, time=before)
        self._publisher.start_run(self._run, facts)
        self._on_frames(frames)

    def _replace_world(self) -> None:
        self._counters.dropped += self._commanded_frames()
        self._run += 1
        self._publisher.drop_run()

    def _world_replaced(self, start: Start, facts: WorldFacts | None) -> None:
        if facts:
            self._facts = facts
            self._world = start.description
            if not getattr(start, "continues", False):
                self.began = facts.state
            self._problem = ""
            self._memory.start_world()
            self._logger.info(f"started {start.description}")
        if self._facts.pose is not None and not self._starts.replacing:
            # The new world, or the old one where the new one's context was refused.
            self._begin_run()

    def _world_settled(self) -> None:
        self._take_held()
        self.pump()

    def _commanded_frames(self) -> int:
        return self._planner.pending_frames if self._planner else 0

    def _begin_run(self) -> None:
        facts = self._facts
        kind = LockstepPlanner if self.settings.mode == "lockstep" else RealtimePlanner
        self._planner = kind(1.0 / facts.fps, self._planner_settings())
        self._planner.restart(facts.pose)
        self._clips = ClipCollector(
            1.0 / facts.fps, longest=self.settings.observation_clip_frames, patience=CLIP_PATIENCE
        )
        self._stalled = False
        self._publisher.start_run(self._run, facts)

    def _report_failed_start(self, started: Future[Start]) -> None:
        error = started.exception()
        if error and not isinstance(error, Cancelled):
            self._problem = f"no world was started: {error}"
            self._logger.error(self._problem)

    # --- States ---

    def save_state(self, name: str, *, overwrite: bool, persistent: bool) -> Future[StateFacts]:
        """Save the world as it was when its last chunk was committed, whatever runs now.

        Raises:
            StateError: there is no world, or one is being started.
        """
        if not self._planner or self._starts.replacing:
            raise StateError("no world runs; start one, or wait until it has started")
        return self.states.save(
            name, self._thread.committed, self._world, overwrite=overwrite, persistent=persistent
        )

    def _autosave(self) -> None:
        committed = self._thread.committed
        if self.settings.autosave and committed and self._planner and not self._starts.replacing:
            self.states.autosave(committed, self._world)

    # --- Commands ---

    def add(self, command: Command) -> None:
        """Take a checked command.

        Raises:
            CommandError: it cannot be followed now.
        """
        if not self.active:
            raise CommandError("not active", "the simulator is not active; activate it first")
        if self._starts.replacing or (self._starts.pending and not self._planner):
            # Where the camera will be is not known yet.
            if len(self._held) >= self.settings.max_pending_frames:
                raise CommandError(
                    "queue full", "too many commands while a world is being started; dropped"
                )
            self._held.append(command)
            return
        if not self._planner:
            raise CommandError("no world", "no world was started; call ~/reset first")
        self._planner.add(command, time.monotonic(), self._publisher.shown_pose)
        if self._standing and isinstance(command, VelocityCommand) and command.moves:
            self._thread.cancel_unseen()  # who begins to drive need not wait for a standstill
        self._stalled = False
        self.pump()

    def observe(self, observation: Observation) -> None:
        """Take a real picture with its pose; it is the world's next frame after the present chunk.

        Raises:
            CommandError: there is no world that it could belong to now.
        """
        if not self.active:
            raise CommandError("not active", "the simulator is not active; activate it first")
        if not self._planner or self._starts.replacing:
            raise CommandError("no world", "no world runs; start one, or wait until it has started")
        self._clips.add(observation)
        self.pump()

    def idle(self, seconds: float) -> None:
        """Note that so much time went by; short lockstep chunks are completed by it."""
        if self.active and self._planner:
            self._planner.idle(seconds)
            self._clips.idle(seconds)
            self.pump()

    def _take_held(self) -> None:
        if self._starts.replacing or (self._starts.pending and not self._planner):
            return
        held, self._held = self._held, deque()
        for command in held:
            try:
                self.add(command)
            except CommandError as error:
                self._counters.dropped += 1
                self._logger.error(f"a command that waited for the world was refused: {error}")

    def _planner_settings(self) -> PlannerSettings:
        settings = self.settings
        longest = self._facts.max_chunk_frames
        default = longest if settings.mode == "lockstep" else min(REALTIME_CHUNK, longest)
        return PlannerSettings(
            chunk_frames=settings.chunk_frames or default,
            max_linear_speed=settings.max_linear_speed,
            max_angular_speed=settings.max_angular_speed,
            cmd_vel_timeout=settings.cmd_vel_timeout,
            lockstep_timeout=settings.lockstep_timeout,
            max_pending_frames=settings.max_pending_frames,
        )

    # --- Steps ---

    def pump(self) -> None:
        """Give the simulator its next chunk, if it is idle and the chunk is wanted now."""
        if not self.active or self._step or self._starts.replacing or not self._planner:
            return
        if self._clips.complete:
            self._remember()
            return
        if self._stalled or self.paused or self._publisher.waiting > self._frames_ahead():
            return
        if len(self._clips) and self._planner.ready:
            self._remember()  # what was seen comes before what is imagined
            return
        chunk = self._planner.next_chunk(time.monotonic())
        if chunk is None:
            return
        self._begin_step(chunk)

    def advance(self, count: int) -> Future[StepResult]:
        """Simulate the next ``count`` frames, one chunk, while paused; commanded ones come first.

        Raises:
            ValueError: time cannot go on now.
        """
        if not self.active or not self._planner or self._starts.pending:
            raise ValueError("no world runs")
        if self._step:
            raise ValueError("a chunk is still being simulated")
        return self._begin_step(self._planner.next_frames(count, time.monotonic()))

    @property
    def frames_published(self) -> int:
        """Frames published since the node started."""
        return self._publisher.published

    @property
    def frames_waiting(self) -> int:
        """Frames that are there and not yet published."""
        return self._publisher.waiting

    @property
    def shown_pose(self) -> np.ndarray:
        """Optical pose [4, 4] of the last published frame."""
        return self._publisher.shown_pose

    @property
    def busy(self) -> bool:
        """Whether a chunk is being simulated."""
        return self._step is not None

    @property
    def realtime(self) -> bool:
        """Whether time follows the wall clock."""
        return self.settings.mode == "realtime"

    @property
    def chunk_frames(self) -> int:
        """Longest chunk of frames that is simulated at once."""
        return self._planner_settings().chunk_frames

    @property
    def spare_seconds(self) -> float | None:
        """Seconds until the next live chunk is due, None while one runs; from any thread."""
        if self._step:
            return None
        planner = self._planner
        if not self.active or self.paused or not planner or not self.realtime:
            return float("inf")
        return (self._publisher.waiting - self._frames_ahead()) / self._facts.fps

    def _remember(self) -> None:
        clip = self._clips.take()
        self._step = self._thread.observe(clip.frames, clip.poses, clip.gaps)
        self._step.add_done_callback(lambda done: self._post(lambda: self._observed(done, clip)))

    def _observed(self, done: Future[WorldFacts], clip: ObservedClip) -> None:
        self._step = None
        error = done.exception()
        if error:
            self._counters.observations_refused += len(clip.frames)
            self._logger.error(f"an observation was not taken into memory: {error}")
        else:
            self._facts = done.result()
            self._counters.observations_taken += len(clip.frames)
            if self._planner and not self._starts.replacing:
                self._planner.observed(self._facts.pose)
                self._publisher.shown_pose = self._facts.pose
                self._autosave()
                self._on_observed(clip)
        self.pump()

    def _begin_step(self, chunk: PlannedChunk) -> Future[StepResult]:
        self.chunks += 1
        held = chunk.commanded is None and bool((chunk.poses == chunk.poses[0]).all())
        self._standing = held and self.realtime and not self.paused
        self._clips.imagined()
        self._step = self._thread.step(
            chunk.poses, run=self._run, commanded=chunk.commanded, watch=self._memory.watch()
        )
        self._step.add_done_callback(lambda done: self._post(lambda: self._stepped(done)))
        return self._step

    def _frames_ahead(self) -> int:
        """Return how many frames may wait when the next chunk is begun."""
        if self.settings.mode == "lockstep":
            return self._planner.settings.chunk_frames
        # As late as is safe: what is planned later follows newer commands.
        needed = max(self._first_frame_seconds, default=0.0) * self._facts.fps
        return int(np.ceil(needed)) + SPARE_FRAMES

    def _stepped(self, step: Future[StepResult]) -> None:
        self._step = None
        self._standing = False
        error = step.exception()
        if error is None:
            result = step.result()
            self._facts = result.facts
            self._autosave()
            self._problem = ""
            self._chunk_seconds = result.seconds
            self._first_frame_seconds.append(result.first_frame_seconds)
            self._step_factor = result.frames / self._facts.fps / max(result.seconds, 1e-6)
        elif not isinstance(error, Cancelled) and self._planner:
            self._problem = f"a chunk failed, and what was commanded is dropped: {error!r}"
            self._logger.error(self._problem)
            self._counters.dropped += self._commanded_frames()
            self._planner.restart(self._facts.pose)
            self._stalled = self.settings.mode == "realtime"
        self.pump()
