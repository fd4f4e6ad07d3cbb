# SPDX-License-Identifier: Apache-2.0
"""Checked commands -> the poses of the next chunk of frames, in the two modes of time.

A planner holds what has been commanded and not yet simulated. It is told "now" (seconds of
a steady clock) and never looks at a clock itself, so the same calls give the same chunks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hydra_ros import trajectory
from hydra_ros.commands import (
    Command,
    CommandError,
    PathCommand,
    PoseCommand,
    VelocityCommand,
)
from hydra_ros.conversions import NANOSECONDS


@dataclass(frozen=True, kw_only=True)
class PlannerSettings:
    """How commands become chunks; the speeds bound pose goals and velocities, never paths."""

    chunk_frames: int  # 1 + 4 k
    max_linear_speed: float = 2.0  # m/s
    max_angular_speed: float = 2.0  # rad/s
    cmd_vel_timeout: float = 0.5  # s, how long the last velocity is held in realtime
    lockstep_timeout: float = 0.5  # s without commands, after which a short chunk is simulated
    max_pending_frames: int = 1500  # commanded and not yet simulated


@dataclass(frozen=True)
class PlannedChunk:
    """Optical poses [T, 4, 4] of the next T = 1 + 4 k frames, and when they were commanded.

    ``commanded`` is the steady time of the newest command in it, None for a held pose.
    """

    poses: np.ndarray
    commanded: float | None


class Planner(Protocol):
    """What the node asks of either mode."""

    settings: PlannerSettings

    @property
    def pending_frames(self) -> int:
        """Frames commanded and not yet handed out."""

    @property
    def ready(self) -> bool:
        """Whether ``next_chunk`` has a chunk to give."""

    def restart(self, pose: np.ndarray) -> None:
        """Forget all commands; the camera is at ``pose`` [4, 4]."""

    def observed(self, pose: np.ndarray) -> None:
        """Note that the camera was seen at ``pose`` [4, 4]; what is commanded stays commanded."""

    def add(self, command: Command, now: float, shown: np.ndarray) -> None:
        """Take a command; ``shown`` [4, 4] is the pose of the last published frame.

        Raises:
            CommandError: it cannot be followed; nothing has changed.
        """

    def idle(self, seconds: float) -> None:
        """Note that so much time went by without a command."""

    def next_chunk(self, now: float) -> PlannedChunk | None:
        """Return the next chunk of at most ``chunk_frames`` frames, None while there is none."""

    def next_frames(self, count: int, now: float) -> PlannedChunk:
        """Return the next ``count`` = 1 + 4 k frames; where none is commanded, the end is held."""


class LockstepPlanner:
    """Time advances only with commands: one commanded pose is one frame, exactly and in order.

    Every pose is the pose of the next frame, every velocity moves the camera for one frame,
    every path gives its frames. Relative poses refer to the end of what was commanded before.
    A path is complete by itself and is simulated at once; single poses and velocities are
    collected until they fill a chunk, or until no command came for ``lockstep_timeout``
    seconds. Any number of frames is split into chunks without padding (``chunk_lengths``).
    """

    def __init__(self, period: float, settings: PlannerSettings) -> None:
        self.settings = settings
        self._period = period
        self._end = np.eye(4)
        self._chunks: deque[PlannedChunk] = deque()
        self._open: list[np.ndarray] = []
        self._open_idle = 0.0
        self._open_commanded = 0.0
        self._last_stamp = 0

    @property
    def pending_frames(self) -> int:
        return len(self._open) + sum(len(chunk.poses) for chunk in self._chunks)

    @property
    def ready(self) -> bool:
        return bool(self._chunks)

    def observed(self, pose: np.ndarray) -> None:
        if not self.pending_frames:
            self._end = pose

    def restart(self, pose: np.ndarray) -> None:
        self._end = pose
        self._chunks.clear()
        self._open.clear()
        self._last_stamp = 0

    def add(self, command: Command, now: float, shown: np.ndarray) -> None:
        room = self.settings.max_pending_frames - self.pending_frames
        if isinstance(command, PathCommand):
            poses = frames_of_path(command, self._end, self._period, room)
            self._close(self._open, self._open_commanded)
            self._close(list(poses), now)
        else:
            _check_room(1, room)
            pose = self._frame_of(command)
            self._open.append(pose)
            self._open_idle = 0.0
            self._open_commanded = now
            # Closed as soon as it is full, whatever the simulator is doing: so the chunks of
            # the same commands are always the same.
            if len(self._open) >= self.settings.chunk_frames:
                self._close(self._open, now)
            poses = pose[None]
        self._end = poses[-1]

    def idle(self, seconds: float) -> None:
        self._open_idle += seconds
        if self._open and self._open_idle >= self.settings.lockstep_timeout:
            self._close(self._open, self._open_commanded)

    def next_chunk(self, now: float) -> PlannedChunk | None:
        return self._chunks.popleft() if self._chunks else None

    def next_frames(self, count: int, now: float) -> PlannedChunk:
        self._close(self._open, self._open_commanded)
        poses: list[np.ndarray] = []
        commanded = None
        while self._chunks and len(poses) < count:
            chunk = self._chunks.popleft()
            commanded = chunk.commanded
            taken = count - len(poses)
            poses.extend(chunk.poses[:taken])
            self._put_back(chunk, taken)
        poses.extend([self._end] * (count - len(poses)))
        return PlannedChunk(np.stack(poses), commanded)

    def _put_back(self, chunk: PlannedChunk, start: int) -> None:
        """Let what is left of a chunk from a frame on come next, as chunks of its own."""
        rest = self._split(chunk.poses[start:], chunk.commanded)
        self._chunks.extendleft(reversed(rest))

    def _frame_of(self, command: PoseCommand | VelocityCommand) -> np.ndarray:
        if isinstance(command, VelocityCommand):
            return _driven(command, self._end, 1, self._period, self.settings)[0]
        pending = self.pending_frames > 0
        self._last_stamp = _check_stamp(command, self._last_stamp if pending else 0)
        return self._end @ command.pose if command.relative else command.pose

    def _close(self, poses: list[np.ndarray], commanded: float) -> None:
        if poses:
            self._chunks.extend(self._split(np.stack(poses), commanded))
        poses.clear()

    def _split(self, poses: np.ndarray, commanded: float | None) -> list[PlannedChunk]:
        lengths = trajectory.chunk_lengths(len(poses), self.settings.chunk_frames)
        ends = np.cumsum(lengths, dtype=int)[:-1]
        return [PlannedChunk(part, commanded) for part in np.split(poses, ends) if len(part)]


class RealtimePlanner:
    """Time goes on by itself: every chunk follows the newest command, or holds the pose.

    A pose is approached at a constant speed, to be reached with the end of a chunk or as soon
    as the speed limits allow, and then held. A path is followed at frame times from the next
    planned frame on, and its end is held. A velocity is held for the chunk it first reaches,
    and for later chunks while it is younger than ``cmd_vel_timeout``. Relative poses refer to
    the camera as last published.
    """

    pending_frames = 0
    ready = True  # time goes on in any case

    def __init__(self, period: float, settings: PlannerSettings) -> None:
        self.settings = settings
        self._period = period
        self.restart(np.eye(4))

    def observed(self, pose: np.ndarray) -> None:
        self._end = pose

    def restart(self, pose: np.ndarray) -> None:
        self._end = pose
        self._goal: np.ndarray | None = None
        self._path: np.ndarray | None = None
        self._velocity: VelocityCommand | None = None
        self._commanded = 0.0
        self._fresh = False
        self._last_stamp = 0

    def add(self, command: Command, now: float, shown: np.ndarray) -> None:
        goal = path = velocity = None
        if isinstance(command, PathCommand):
            room = self.settings.max_pending_frames
            path = frames_of_path(command, shown, self._period, room)
        elif isinstance(command, PoseCommand):
            followed = self._goal is not None
            self._last_stamp = _check_stamp(command, self._last_stamp if followed else 0)
            goal = shown @ command.pose if command.relative else command.pose
        else:
            velocity = command
        self._goal, self._path, self._velocity = goal, path, velocity
        self._commanded = now
        self._fresh = True

    def idle(self, seconds: float) -> None:
        pass

    def next_chunk(self, now: float) -> PlannedChunk:
        return self.next_frames(self.settings.chunk_frames, now)

    def next_frames(self, count: int, now: float) -> PlannedChunk:
        poses = self._next_poses(count, now)
        self._end = poses[-1]
        chunk = PlannedChunk(poses, self._commanded if self._fresh else None)
        self._fresh = False
        return chunk

    def _next_poses(self, count: int, now: float) -> np.ndarray:
        settings = self.settings
        if self._goal is not None:
            poses = trajectory.approach(
                self._end,
                self._goal,
                count,
                self._period,
                settings.max_linear_speed,
                settings.max_angular_speed,
            )
            if np.array_equal(poses[-1], self._goal):
                self._goal = None
            return poses
        if self._path is not None:
            poses = self._path[:count]
            self._path = self._path[count:] if len(self._path) > count else None
            return np.concatenate([poses, np.repeat(poses[-1:], count - len(poses), axis=0)])
        if self._velocity is not None:
            if self._fresh or now - self._commanded <= settings.cmd_vel_timeout:
                return _driven(self._velocity, self._end, count, self._period, settings)
            self._velocity = None
        return np.repeat(self._end[None], count, axis=0)


def _driven(
    command: VelocityCommand,
    start: np.ndarray,
    count: int,
    period: float,
    settings: PlannerSettings,
) -> np.ndarray:
    linear = trajectory.limited(command.linear, settings.max_linear_speed)
    angular = trajectory.limited(command.angular, settings.max_angular_speed)
    return trajectory.drive(start, linear, angular, count, period)


def frames_of_path(
    command: PathCommand, origin: np.ndarray, period: float, room: int
) -> np.ndarray:
    """Return the poses [N, 4, 4] of a path's frames, refused where N is more than ``room``."""
    count = len(command.poses)
    if command.times is not None:
        count = trajectory.frame_count(float(command.times[-1]), period)
    _check_room(count, room)
    poses = origin @ command.poses if command.relative else command.poses
    return poses if command.times is None else trajectory.resample(poses, command.times, period)


def _check_room(frames: int, room: int) -> None:
    if frames > room:
        raise CommandError(
            "queue full",
            f"{frames} more frame{'s' if frames > 1 else ''} commanded, but the queue has room "
            f"for {room} (parameter max_pending_frames); dropped",
        )


def _check_stamp(command: PoseCommand, last: int) -> int:
    """Return the command's stamp, refused where it is set and behind ``last``."""
    if command.stamp and command.stamp < last:
        raise CommandError(
            "times backwards",
            f"the stamp {command.stamp / NANOSECONDS:.9g} s runs backwards, behind the "
            f"{last / NANOSECONDS:.9g} s of the pose before it, which is still being followed",
        )
    return command.stamp or last
