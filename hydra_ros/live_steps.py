# SPDX-License-Identifier: Apache-2.0
"""The steps of the world that runs: what it imagines or remembers next, one after another.

All of it belongs to the executor's thread; it computes nothing and never waits.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger

from hydra_ros.commands import Command, VelocityCommand
from hydra_ros.diagnostics import Counters
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
from hydra_ros.simulation_thread import Cancelled, SimulationThread, StepResult, WorldFacts

# Seconds without an observation after which those that wait are a clip of their own.
CLIP_PATIENCE = 0.3

REALTIME_CHUNK = 17  # frames; about one second

# Frames that must still wait when the next chunk's first frame comes, against jitter.
SPARE_FRAMES = 2


@dataclasses.dataclass
class StepTimes:
    """How fast the last steps were, in seconds."""

    chunk_seconds: float = 0.0
    first_frame_seconds: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=3))
    factor: float | None = None  # seconds simulated per second of computing

    def add(self, result: StepResult, fps: float) -> None:
        """Note a step that is done."""
        self.chunk_seconds = result.seconds
        self.first_frame_seconds.append(result.first_frame_seconds)
        self.factor = result.frames / fps / max(result.seconds, 1e-6)


class LiveSteps:
    """Plans chunks and gives them to the simulation thread, with what was seen in between.

    Args:
        settings: the node's parameters.
        thread: runs the world.
        publisher: publishes its frames.
        memory: shows what is remembered.
        post: runs a function soon on the executor's thread; may be called from any thread.
        counters: counts what was dropped and what was observed.
        logger: the node's.
        replacing: whether another world is just taking the place of this one.
        committed: called when the world has changed.
        on_observed: gets the observations that are in the memory.
    """

    def __init__(
        self,
        settings: Settings,
        thread: SimulationThread,
        publisher: FramePublisher,
        memory: MemoryPublisher,
        post: Callable[[Callable[[], None]], None],
        counters: Counters,
        logger: RcutilsLogger,
        *,
        replacing: Callable[[], bool],
        committed: Callable[[], None],
        on_observed: Callable[[ObservedClip], None],
    ) -> None:
        self.active = False
        self.paused = False  # time stands still but for ``advance``
        self.facts: WorldFacts | None = None  # after the last thing that happened to the world
        self.problem = ""
        self.run = 0  # number of the world; whoever replaces it counts on
        self.chunks = 0  # begun, over all worlds
        self.times = StepTimes()
        self._settings = settings
        self._thread = thread
        self._publisher = publisher
        self._memory = memory
        self._post = post
        self._counters = counters
        self._logger = logger
        self._replacing = replacing
        self._committed = committed
        self._on_observed = on_observed
        self._planner: Planner | None = None
        self._clips: ClipCollector | None = None
        self._step: Future[StepResult] | Future[WorldFacts] | None = None  # under way
        self._standing = False  # that step shows the camera as it stands, for want of a command
        self._stalled = False  # a step failed: realtime waits for the next command

    def begin(self) -> None:
        """Begin at the camera of ``facts``, with nothing commanded."""
        facts = self.facts
        kind = RealtimePlanner if self.realtime else LockstepPlanner
        self._planner = kind(1.0 / facts.fps, self._planner_settings())
        self._planner.restart(facts.pose)
        self._clips = ClipCollector(
            1.0 / facts.fps, longest=self._settings.observation_clip_frames, patience=CLIP_PATIENCE
        )
        self._stalled = False
        self._publisher.start_run(self.run, facts)

    def close(self) -> None:
        """There is no world any more."""
        self.active = False
        self._planner = None

    def change_settings(self, settings: Settings) -> None:
        """Take over changed parameters; they hold for what is planned from now on."""
        self._settings = settings
        if self._planner:
            self._clips.longest = settings.observation_clip_frames
            self._planner.settings = self._planner_settings()

    @property
    def begun(self) -> bool:
        """Whether there is a world."""
        return self._planner is not None

    @property
    def busy(self) -> bool:
        """Whether a chunk is being simulated."""
        return self._step is not None

    @property
    def realtime(self) -> bool:
        """Whether time follows the wall clock."""
        return self._settings.mode == "realtime"

    @property
    def chunk_frames(self) -> int:
        """Longest chunk of frames that is simulated at once."""
        return self._planner_settings().chunk_frames

    @property
    def commanded_frames(self) -> int:
        """Frames that were commanded and not yet begun."""
        return self._planner.pending_frames if self._planner else 0

    @property
    def spare_seconds(self) -> float | None:
        """Seconds until the next chunk is due, None while one runs; from any thread."""
        if self._step:
            return None
        planner = self._planner
        if not self.active or self.paused or not planner or not self.realtime:
            return float("inf")
        return (self._publisher.waiting - self._frames_ahead()) / self.facts.fps

    def add(self, command: Command) -> None:
        """Follow a checked command.

        Raises:
            CommandError: it cannot be followed now.
        """
        self._planner.add(command, time.monotonic(), self._publisher.shown_pose)
        if self._standing and isinstance(command, VelocityCommand) and command.moves:
            self._thread.cancel_unseen()  # who begins to drive need not wait for a standstill
        self._stalled = False
        self.pump()

    def observe(self, observation: Observation) -> None:
        """Take a real picture with its pose; it is the world's next frame after the present chunk.

        Raises:
            CommandError: it does not fit to the one before.
        """
        self._clips.add(observation)
        self.pump()

    def idle(self, seconds: float) -> None:
        """Note that so much time went by; short lockstep chunks are completed by it."""
        if self.active and self._planner:
            self._planner.idle(seconds)
            self._clips.idle(seconds)
            self.pump()

    def pump(self) -> None:
        """Begin the next step, if none is under way and it is wanted now."""
        if not self.active or self._step or self._replacing() or not self._planner:
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
        if chunk is not None:
            self._begin_step(chunk)

    def advance(self, count: int) -> Future[StepResult]:
        """Simulate the next ``count`` frames, one chunk, while paused; commanded ones come first.

        Raises:
            ValueError: a chunk is being simulated.
        """
        if self._step:
            raise ValueError("a chunk is still being simulated")
        return self._begin_step(self._planner.next_frames(count, time.monotonic()))

    def _begin_step(self, chunk: PlannedChunk) -> Future[StepResult]:
        self.chunks += 1
        held = chunk.commanded is None and bool((chunk.poses == chunk.poses[0]).all())
        self._standing = held and self.realtime and not self.paused
        self._clips.imagined()
        self._step = self._thread.step(
            chunk.poses, run=self.run, commanded=chunk.commanded, watch=self._memory.watch()
        )
        self._step.add_done_callback(lambda done: self._post(lambda: self._stepped(done)))
        return self._step

    def _stepped(self, step: Future[StepResult]) -> None:
        self._step = None
        self._standing = False
        error = step.exception()
        if error is None:
            result = step.result()
            self.facts = result.facts
            self._committed()
            self.problem = ""
            self.times.add(result, self.facts.fps)
        elif not isinstance(error, Cancelled) and self._planner:
            self.problem = f"a chunk failed, and what was commanded is dropped: {error!r}"
            self._logger.error(self.problem)
            self._counters.dropped += self.commanded_frames
            self._planner.restart(self.facts.pose)
            self._stalled = self.realtime
        self.pump()

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
            self.facts = done.result()
            self._counters.observations_taken += len(clip.frames)
            if self._planner and not self._replacing():
                self._planner.observed(self.facts.pose)
                self._publisher.shown_pose = self.facts.pose
                self._committed()
                self._on_observed(clip)
        self.pump()

    def _frames_ahead(self) -> int:
        """Return how many frames may wait when the next chunk is begun."""
        if not self.realtime:
            return self._planner.settings.chunk_frames
        # As late as is safe: what is planned later follows newer commands.
        needed = max(self.times.first_frame_seconds, default=0.0) * self.facts.fps
        return int(np.ceil(needed)) + SPARE_FRAMES

    def _planner_settings(self) -> PlannerSettings:
        settings = self._settings
        longest = self.facts.max_chunk_frames
        default = min(REALTIME_CHUNK, longest) if self.realtime else longest
        return PlannerSettings(
            chunk_frames=settings.chunk_frames or default,
            max_linear_speed=settings.max_linear_speed,
            max_angular_speed=settings.max_angular_speed,
            cmd_vel_timeout=settings.cmd_vel_timeout,
            lockstep_timeout=settings.lockstep_timeout,
            max_pending_frames=settings.max_pending_frames,
        )
