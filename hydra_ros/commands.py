# SPDX-License-Identifier: Apache-2.0
"""Command messages -> checked commands in the optical frame.

Checking needs nothing but the message and the frame names, so a bad message is refused where
it comes in, before it can touch the simulator. What a command means at the frame times is
decided by ``planners.py``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Path

from hydra_ros.conversions import (
    NANOSECONDS,
    OPTICAL_FROM_BODY,
    body_motion_to_optical,
    body_to_optical,
    given_pose_from_message,
    time_to_nanoseconds,
)

# m/s and rad/s along an axis. Speeds are limited anyway; beyond, nothing is meant.
LARGEST_VELOCITY = 1e6


class CommandError(ValueError):
    """A command that is refused; ``reason`` groups messages of one kind for throttled logs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class PoseCommand:
    """One optical pose [4, 4], in the world or relative to where the camera is now.

    ``stamp`` is the header's time in nanoseconds, 0 where none was set.
    """

    pose: np.ndarray
    relative: bool
    stamp: int


@dataclass(frozen=True)
class PathCommand:
    """Optical poses [N, 4, 4]; ``times`` [N] in seconds since the first, None without timing."""

    poses: np.ndarray
    relative: bool
    times: np.ndarray | None


@dataclass(frozen=True)
class VelocityCommand:
    """A twist of the camera in optical axes: ``linear`` [3] m/s, ``angular`` [3] rad/s."""

    linear: np.ndarray
    angular: np.ndarray

    @property
    def moves(self) -> bool:
        """Whether it is more than to stand still."""
        return bool(self.linear.any() or self.angular.any())


Command = PoseCommand | PathCommand | VelocityCommand


@dataclass(frozen=True, kw_only=True)
class CameraFrames:
    """Names of the frames a command may be given in.

    ``pose_convention`` says what a pose in the world frame is the pose of: "body" (REP-103,
    x forward) or "optical" (z forward). A pose in one of the camera's own frames is the pose
    of that frame, relative to where it is now: the identity means "stay".
    """

    world: str
    body: str
    optical: str
    pose_convention: str = "body"

    def read_pose(self, message: PoseStamped) -> PoseCommand:
        """Check a PoseStamped; an empty frame_id means the world frame.

        Raises:
            CommandError: not finite, too far, no unit quaternion, or an unknown frame_id.
        """
        frame = self._known_frame(message.header.frame_id)
        pose = self._optical_pose(message.pose, frame, "pose")
        return PoseCommand(pose, frame != self.world, time_to_nanoseconds(message.header.stamp))

    def read_path(self, message: Path) -> PathCommand:
        """Check a Path; a pose without frame_id is in the path's frame.

        Raises:
            CommandError: no poses, a bad pose, different frames, or stamps that do not increase.
        """
        if not message.poses:
            raise CommandError("empty path", "the path has no poses; at least one is needed")
        names = [pose.header.frame_id or message.header.frame_id for pose in message.poses]
        if len(set(names)) > 1:
            raise CommandError(
                "mixed frames", f"the path mixes the frames {sorted(set(names))}; use one"
            )
        frame = self._known_frame(names[0])
        poses = [
            self._optical_pose(pose.pose, frame, f"pose {index}")
            for index, pose in enumerate(message.poses)
        ]
        stamps = [time_to_nanoseconds(pose.header.stamp) for pose in message.poses]
        return PathCommand(np.stack(poses), frame != self.world, _relative_times(stamps))

    def read_twist(self, message: Twist | TwistStamped) -> VelocityCommand:
        """Check a twist: m/s and rad/s in the axes of the camera body (or the optical frame).

        Raises:
            CommandError: not finite, more than ``LARGEST_VELOCITY``, or a stamped twist in another
                frame.
        """
        frame = self.body
        if isinstance(message, TwistStamped):
            frame = message.header.frame_id or self.body
            message = message.twist
        if frame not in (self.body, self.optical):
            raise CommandError(
                "unknown frame",
                f"frame_id {frame!r} is not accepted for a velocity; "
                f"use {self.body!r}, {self.optical!r} or leave it empty",
            )
        linear = np.array([message.linear.x, message.linear.y, message.linear.z])
        angular = np.array([message.angular.x, message.angular.y, message.angular.z])
        if not (np.isfinite(linear).all() and np.isfinite(angular).all()):
            raise CommandError(
                "not finite",
                f"velocity {linear.tolist()}, {angular.tolist()} is not finite",
            )
        if np.abs([linear, angular]).max() > LARGEST_VELOCITY:
            raise CommandError(
                "too fast",
                f"velocity {linear.tolist()}, {angular.tolist()} is too fast; accepted: up to "
                f"{LARGEST_VELOCITY:.0f} m/s and rad/s along each axis",
            )
        if frame == self.body:
            rotation = OPTICAL_FROM_BODY[:3, :3]
            linear, angular = rotation @ linear, rotation @ angular
        return VelocityCommand(linear, angular)

    def _known_frame(self, name: str) -> str:
        name = name or self.world
        if name not in (self.world, self.body, self.optical):
            raise CommandError(
                "unknown frame",
                f"frame_id {name!r} is unknown; use {self.world!r} (or leave it empty), or "
                f"{self.body!r} or {self.optical!r} for poses relative to the camera",
            )
        return name

    def _optical_pose(self, message: object, frame: str, name: str) -> np.ndarray:
        try:
            pose = given_pose_from_message(message)
        except ValueError as error:
            kind = f"bad {str(error).split()[0]}"  # position or orientation
            raise CommandError(kind, f"{name}: {error}") from None
        if frame == self.body:
            return body_motion_to_optical(pose)
        if frame == self.world and self.pose_convention == "body":
            return body_to_optical(pose)
        return pose


def _relative_times(stamps: list[int]) -> np.ndarray | None:
    """Return the seconds since the first stamp, None where all are equal (planners do that)."""
    if len(set(stamps)) == 1:
        return None
    for index, (before, after) in enumerate(itertools.pairwise(stamps)):
        if after <= before:
            raise CommandError(
                "times backwards",
                f"the stamps run backwards or stand still: {after / NANOSECONDS:.9g} s (pose "
                f"{index + 1}) comes after {before / NANOSECONDS:.9g} s; they must increase, or "
                "all be equal for one pose per frame",
            )
    return np.array([(stamp - stamps[0]) / NANOSECONDS for stamp in stamps])
