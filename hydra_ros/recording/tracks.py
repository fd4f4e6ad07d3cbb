# SPDX-License-Identifier: Apache-2.0
"""Poses and odometry in a bag -> a camera track, and a track at frame times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hydra_ros import trajectory
from hydra_ros.conversions import NANOSECONDS, body_to_optical, pose_from_message
from hydra_ros.recording.bag import Bag, BagError

POSE_TYPES = (
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "nav_msgs/msg/Odometry",
    "nav_msgs/msg/Path",
)


@dataclass(frozen=True, kw_only=True)
class Track:
    """Optical poses [N, 4, 4] in the bag's own world, at increasing ``times`` [N] in seconds.

    ``skipped`` poses were left out: their stamps do not increase.
    """

    times: np.ndarray
    poses: np.ndarray
    skipped: int = 0

    def at_frames(self, fps: float) -> np.ndarray:
        """Return the poses at frame times, the first one's on; see ``trajectory.resample``."""
        return trajectory.resample(self.poses, self.times, 1.0 / fps)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the poses at ``times`` within the track's, interpolated."""
        poses = []
        for time in times:
            after = int(np.clip(np.searchsorted(self.times, time), 1, len(self.times) - 1))
            span = self.times[after] - self.times[after - 1]
            fraction = (time - self.times[after - 1]) / span
            poses.append(trajectory.slerp(self.poses[after - 1], self.poses[after], fraction))
        return np.stack(poses)

    def moved_to(self, start: np.ndarray) -> np.ndarray:
        """Return the poses as a motion that begins at ``start`` [4, 4]."""
        return start @ np.linalg.inv(self.poses[0]) @ self.poses


def read_track(bag: Bag, topic: str, *, optical: bool = False) -> Track:
    """Return the poses of a topic: PoseStamped, PoseWithCovarianceStamped, Odometry or Path.

    Of a Path the longest message counts, with the times of its poses. Poses are of a body
    (x forward, z up: a robot, REP-103) or of an ``optical`` frame (z forward). Times are those
    of the headers, or where those are not set, of the recording.

    Raises:
        BagError: the topic is missing, has another type, no poses, a bad pose or no times.
    """
    entries = list(bag.messages(topic, POSE_TYPES))
    if not entries:
        raise BagError(f"topic {topic!r} in {bag.path} has no messages")
    if hasattr(entries[0][1], "poses"):
        path = max((message for _, message in entries), key=lambda message: len(message.poses))
        stamped = [(0, pose.header, pose.pose) for pose in path.poses]
    else:
        stamped = [(stamp, message.header, _pose(message)) for stamp, message in entries]
    if len(stamped) < 2:
        raise BagError(f"topic {topic!r} in {bag.path} has {len(stamped)} poses; 2 are needed")
    times = np.array([header.stamp.sec * NANOSECONDS + header.stamp.nanosec
                      for _, header, _ in stamped], dtype=np.int64)  # fmt: skip
    if not times.any():
        times = np.array([stamp for stamp, _, _ in stamped], dtype=np.int64)
    if not times.any():
        raise BagError(f"topic {topic!r} in {bag.path}: the poses of the path have no stamps")
    poses = []
    for number, (_, _, pose) in enumerate(stamped):
        try:
            poses.append(pose_from_message(pose))
        except ValueError as error:
            raise BagError(f"topic {topic!r} in {bag.path}: pose {number}: {error}") from None
    kept = _increasing(times)
    if len(kept) < 2:
        raise BagError(f"topic {topic!r} in {bag.path}: the stamps do not increase")
    stacked = np.stack(poses)[kept]
    return Track(
        times=times[kept] / NANOSECONDS,
        poses=stacked if optical else body_to_optical(stacked),
        skipped=len(times) - len(kept),
    )


def _pose(message: Any) -> Any:
    """Return the bare pose of a message; some wrap it twice."""
    pose = message.pose
    return getattr(pose, "pose", pose)


def _increasing(times: np.ndarray) -> np.ndarray:
    """Return the indices of the times that are later than all before them."""
    before = np.concatenate([[-1], np.maximum.accumulate(times)[:-1]])
    return np.flatnonzero(times > before)
