# SPDX-License-Identifier: Apache-2.0
"""Poses and odometry in a bag -> a camera track, and a track at frame times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hydra_ros import trajectory
from hydra_ros.conversions import NANOSECONDS, body_to_optical, given_pose_from_message
from hydra_ros.recording.bag import Bag, BagError
from hydra_ros.recording.bag_frames import BagTransforms, moves, plain

POSE_TYPES = (
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "nav_msgs/msg/Odometry",
    "nav_msgs/msg/Path",
)


@dataclass(frozen=True, kw_only=True)
class Track:
    """Optical poses [N, 4, 4] in the bag's own world, at increasing ``times`` [N] in seconds.

    ``skipped`` poses were left out, since their stamps do not increase, and ``unplaced`` ones,
    since the bag's transforms do not reach their times.
    """

    times: np.ndarray
    poses: np.ndarray
    skipped: int = 0
    unplaced: int = 0

    def at_frames(self, fps: float) -> np.ndarray:
        """Return the poses at frame times, the first one's on; see ``trajectory.resample``."""
        return trajectory.resample(self.poses, self.times, 1.0 / fps)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the poses at ``times`` within the track's, interpolated."""
        return trajectory.interpolate(self.poses, self.times, times)

    def moved_to(self, start: np.ndarray) -> np.ndarray:
        """Return the poses as a motion that begins at ``start`` [4, 4]."""
        return start @ np.linalg.inv(self.poses[0]) @ self.poses


def read_track(bag: Bag, topic: str, *, optical: bool = False, frame: str | None = None) -> Track:
    """Return the poses of a topic: PoseStamped, PoseWithCovarianceStamped, Odometry or Path.

    Of a Path the longest message counts, with the times of its poses. Poses are of a body
    (x forward, z up: a robot, REP-103) or of an ``optical`` frame (z forward). Times are those
    of the headers, or where those are not set, of the recording. Poses in other frames than
    ``frame`` are brought into it by the bag's transforms: those of a Path at the time of its own
    header, others at their own. Without ``frame`` they stay in theirs.

    Raises:
        BagError: the topic is missing, has another type, no poses, a bad pose or no times; its
            poses are in several frames, in a moving one, or cannot be brought into ``frame``.
    """
    entries = list(bag.messages(topic, POSE_TYPES))
    if not entries:
        raise BagError(f"topic {topic!r} in {bag.path} has no messages")
    path = None
    if hasattr(entries[0][1], "poses"):
        path = max((message for _, message in entries), key=lambda message: len(message.poses))
        stamped = [(0, pose.header, pose.pose) for pose in path.poses]
    else:
        stamped = [(stamp, message.header, _pose(message)) for stamp, message in entries]
    if len(stamped) < 2:
        raise BagError(f"topic {topic!r} in {bag.path} has {len(stamped)} poses; 2 are needed")
    times = np.array([_nanoseconds(header) for _, header, _ in stamped], dtype=np.int64)
    if not times.any():
        times = np.array([stamp for stamp, _, _ in stamped], dtype=np.int64)
    if not times.any():
        raise BagError(f"topic {topic!r} in {bag.path}: the poses of the path have no stamps")
    poses = []
    for number, (_, _, pose) in enumerate(stamped):
        try:
            poses.append(given_pose_from_message(pose))
        except ValueError as error:
            raise BagError(f"topic {topic!r} in {bag.path}: pose {number}: {error}") from None
    frames = [plain(header.frame_id) for _, header, _ in stamped]
    placed_at = times
    if path is not None:
        frames = [name or plain(path.header.frame_id) for name in frames]
        placed_at = np.full_like(times, _nanoseconds(path.header) or times[0])
    stacked, known = np.stack(poses), np.ones(len(times), dtype=bool)
    if frame is None:
        _check_frames(bag, topic, set(frames))
    else:
        stacked, known = _placed(bag, stacked, frames, plain(frame), placed_at)
        if known.sum() < 2:
            raise BagError(
                f"topic {topic!r} in {bag.path}: the transforms into {frame!r} are of other times "
                "than the poses"
            )
    kept = np.flatnonzero(known)
    kept = kept[_increasing(times[known])]
    if len(kept) < 2:
        raise BagError(f"topic {topic!r} in {bag.path}: the stamps do not increase")
    return Track(
        times=times[kept] / NANOSECONDS,
        poses=stacked[kept] if optical else body_to_optical(stacked[kept]),
        skipped=int(known.sum()) - len(kept),
        unplaced=int((~known).sum()),
    )


def _check_frames(bag: Bag, topic: str, frames: set[str]) -> None:
    """Refuse poses that are no way through one world: of several frames, or of a moving one."""
    moving = sorted(frame for frame in frames if moves(bag, frame))
    if len(frames) == 1 and not moving:
        return
    known = BagTransforms(bag).frames
    way_out = f"its transforms have {', '.join(known)}" if known else "the bag has no transforms"
    if len(frames) > 1:
        what = f"the poses are in several frames ({', '.join(map(repr, sorted(frames)))})"
        raise BagError(
            f"topic {topic!r} in {bag.path}: {what}; give --frame with one to bring them into; "
            f"{way_out}"
        )
    raise BagError(
        f"topic {topic!r} in {bag.path}: the poses are relative to {moving[0]!r}, which moves; "
        f"give --frame with a fixed one to bring them into ({way_out}), or --frame {moving[0]} "
        "if it stands still"
    )


def _placed(
    bag: Bag, poses: np.ndarray, frames: list[str], target: str, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the poses in the frame ``target``, and which of them [N] are known there."""
    placed, known = poses.copy(), np.ones(len(poses), dtype=bool)
    transforms = None
    for frame in sorted(set(frames) - {target}):
        transforms = transforms or BagTransforms(bag)
        of_frame = np.array([name == frame for name in frames])
        in_target, reached = transforms.place(frame, target, times[of_frame])
        placed[of_frame] = in_target @ poses[of_frame]
        known[of_frame] = reached
    return placed, known


def _nanoseconds(header: Any) -> int:
    return header.stamp.sec * NANOSECONDS + header.stamp.nanosec


def _pose(message: Any) -> Any:
    """Return the bare pose of a message; some wrap it twice."""
    pose = message.pose
    return getattr(pose, "pose", pose)


def _increasing(times: np.ndarray) -> np.ndarray:
    """Return the indices of the times that are later than all before them."""
    before = np.concatenate([[-1], np.maximum.accumulate(times)[:-1]])
    return np.flatnonzero(times > before)
