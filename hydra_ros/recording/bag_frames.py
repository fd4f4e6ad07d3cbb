# SPDX-License-Identifier: Apache-2.0
"""Frames of reference in a bag: which of them move, and where its transforms place them."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np

from hydra_ros import trajectory
from hydra_ros.conversions import NANOSECONDS, pose_from_message
from hydra_ros.recording.bag import Bag, BagError

TRANSFORMS = "tf2_msgs/msg/TFMessage"
ODOMETRY = "nav_msgs/msg/Odometry"

# Frames that move with a robot (REP-105) or with the simulator's camera, by their last name.
MOVING = {"base_link", "base_footprint", "camera_link", "camera_optical_frame"}


def plain(frame: str) -> str:
    """Return the name of a frame without the slash that ROS 1 put before it."""
    return frame.lstrip("/")


def moves(bag: Bag, frame: str) -> bool:
    """Say whether a frame is known to move: by its name, or because odometry in the bag says so."""
    if frame.rsplit("/", 1)[-1] in MOVING:
        return True
    first = (next(bag.messages(topic), None) for topic in bag.of_type(ODOMETRY))
    return frame in {plain(entry[1].child_frame_id) for entry in first if entry}


class BagTransforms:
    """The transforms of a bag's topics of TFMessage, such as /tf and /tf_static."""

    def __init__(self, bag: Bag) -> None:
        self._path = bag.path
        self._parents: dict[str, str] = {}
        self._static: set[str] = set()
        found: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
        for topic in bag.of_type(TRANSFORMS):
            for _, message in bag.messages(topic):
                for transform in message.transforms:
                    child, stamp = plain(transform.child_frame_id), transform.header.stamp
                    self._parents[child] = plain(transform.header.frame_id)
                    if topic.endswith("tf_static"):
                        self._static.add(child)
                        found[child].clear()  # the newest holds
                    time = stamp.sec * NANOSECONDS + stamp.nanosec
                    found[child][time] = self._matrix(child, transform.transform)
        self._tracks = {
            child: (np.array(sorted(track)), np.stack([track[time] for time in sorted(track)]))
            for child, track in found.items()
        }

    @property
    def frames(self) -> list[str]:
        return sorted({*self._parents, *self._parents.values()})

    def place(self, frame: str, target: str, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the poses [N, 4, 4] of a frame in another at ``times`` [N], in nanoseconds.

        Poses between two transforms are interpolated. Second, whether each is known [N]: whether
        the transforms on the way reach its time.

        Raises:
            BagError: no chain of transforms leads from the one to the other.
        """
        way, wanted = self._chain(frame), self._chain(target)
        if way[-1] != wanted[-1]:
            raise BagError(
                f"the transforms of {self._path} do not lead from {frame!r} to {target!r}; "
                f"they have {', '.join(self.frames) or 'no frames'}"
            )
        from_root, known = self._in_root(way, times)
        of_target, target_known = self._in_root(wanted, times)
        return np.linalg.inv(of_target) @ from_root, known & target_known

    def _chain(self, frame: str) -> list[str]:
        """Return the frame, its parent, and so on to the root."""
        chain = [frame]
        while (parent := self._parents.get(chain[-1])) is not None:
            if parent in chain:
                raise BagError(f"the transforms of {self._path} lead around from {parent!r} to it")
            chain.append(parent)
        return chain

    def _in_root(self, chain: list[str], times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        poses = np.tile(np.eye(4), (len(times), 1, 1))
        known = np.ones(len(times), dtype=bool)
        for child in chain[:-1]:
            stamps, track = self._tracks[child]
            poses = trajectory.interpolate(track, stamps, times) @ poses
            if child not in self._static:
                known &= (stamps[0] <= times) & (times <= stamps[-1])
        return poses, known

    def _matrix(self, child: str, transform: Any) -> np.ndarray:
        pose = SimpleNamespace(position=transform.translation, orientation=transform.rotation)
        try:
            return pose_from_message(pose)
        except ValueError as error:
            raise BagError(f"{self._path}: a transform of {child!r}: {error}") from None
