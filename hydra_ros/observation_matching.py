# SPDX-License-Identifier: Apache-2.0
"""Which pose belongs to which picture."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hydra_ros.commands import CommandError
from hydra_ros.conversions import NANOSECONDS

KEPT_POSES = 1000
LATER = 0.1  # s after which a pose of equal stamp is no longer expected


class ObservationError(CommandError):
    """An observation that is refused; ``reason`` groups those of one kind for throttled logs."""


@dataclass(frozen=True)
class Picture:
    """An image that waits for its pose: stamp in nanoseconds, frame, steady time of arrival."""

    stamp: int
    frame: str
    message: Any
    arrived: float


class PoseSource(Protocol):
    """Where the poses of pictures come from."""

    def find(self, picture: Picture, now: float) -> np.ndarray | None:
        """Return the optical pose [4, 4] at a picture's stamp, None while there is none."""

    def hopeless(self, picture: Picture, now: float) -> bool:
        """Return whether none will come any more."""

    def missing(self, picture: Picture) -> str:
        """Say why there was none."""

    def clear(self) -> None:
        """Forget all poses."""


class StampedPoses:
    """Poses by stamp; the one of equal stamp is taken, or the nearest within ``tolerance`` s."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self._stamps: list[int] = []
        self._poses: list[np.ndarray] = []

    def add(self, stamp: int, pose: np.ndarray) -> None:
        """Take a pose [4, 4] of the optical frame; stamps may come in any order."""
        place = bisect.bisect_left(self._stamps, stamp)
        self._stamps.insert(place, stamp)
        self._poses.insert(place, pose)
        if len(self._stamps) > KEPT_POSES:
            del self._stamps[0], self._poses[0]

    def clear(self) -> None:
        self._stamps.clear()
        self._poses.clear()

    def find(self, picture: Picture, now: float) -> np.ndarray | None:
        nearest = self._nearest(picture.stamp)
        if nearest is None:
            return None
        away = abs(self._stamps[nearest] - picture.stamp)
        # A nearer one may still be on its way.
        settled = self._stamps[-1] >= picture.stamp or now - picture.arrived >= LATER
        if away == 0 or (away <= self.tolerance * NANOSECONDS and settled):
            return self._poses[nearest]
        return None

    def hopeless(self, picture: Picture, now: float) -> bool:
        newest = self._stamps[-1] if self._stamps else 0
        passed = newest > picture.stamp + self.tolerance * NANOSECONDS
        return passed and now - picture.arrived >= LATER

    def missing(self, picture: Picture) -> str:
        nearest = self._nearest(picture.stamp)
        if nearest is None:
            return "no pose came on observation/pose"
        away = abs(self._stamps[nearest] - picture.stamp) / NANOSECONDS
        return f"the nearest pose on observation/pose is {away:.3f} s away"

    def _nearest(self, stamp: int) -> int | None:
        place = bisect.bisect_left(self._stamps, stamp)
        around = [i for i in (place - 1, place) if 0 <= i < len(self._stamps)]
        return min(around, key=lambda i: abs(self._stamps[i] - stamp), default=None)


class TransformPoses:
    """Poses of a picture's own frame, looked up by its stamp in ``tf2_ros``'s buffer.

    ``lookup(frame, stamp)`` returns the pose [4, 4] of a frame in the world, or raises
    ``LookupError`` with the reason.
    """

    def __init__(self, lookup: Callable[[str, int], np.ndarray]) -> None:
        self._lookup = lookup

    def find(self, picture: Picture, now: float) -> np.ndarray | None:
        try:
            return self._lookup(picture.frame, picture.stamp)
        except LookupError:
            return None

    def hopeless(self, picture: Picture, now: float) -> bool:
        return False

    def missing(self, picture: Picture) -> str:
        try:
            self._lookup(picture.frame, picture.stamp)
        except LookupError as error:
            return f"no transform of {picture.frame!r}: {error}"
        return "its transform came too late"

    def clear(self) -> None:
        pass


class PictureQueue:
    """Pictures that wait for their poses, in the order in which they came."""

    def __init__(self, poses: PoseSource, *, wait: float, longest: int = 60) -> None:
        self.wait = wait
        self._poses = poses
        self._longest = longest
        self._pictures: deque[Picture] = deque()

    def __len__(self) -> int:
        return len(self._pictures)

    def add(self, picture: Picture) -> None:
        """Take a picture.

        Raises:
            ObservationError: too many wait already.
        """
        if len(self._pictures) >= self._longest:
            raise ObservationError(
                "too many", f"{self._longest} images wait for their poses already; dropped"
            )
        self._pictures.append(picture)

    def waited(self, now: float) -> float:
        """Return for how many seconds the oldest picture has waited."""
        return now - self._pictures[0].arrived if self._pictures else 0.0

    def clear(self) -> None:
        """Forget pictures and poses."""
        self._pictures.clear()
        self._poses.clear()

    def next(self, now: float) -> tuple[Picture, np.ndarray] | None:
        """Return the oldest picture with its pose, None where it has to wait.

        Raises:
            ObservationError: it waited too long for its pose and was dropped.
        """
        if not self._pictures:
            return None
        picture = self._pictures[0]
        pose = self._poses.find(picture, now)
        if pose is not None:
            return self._pictures.popleft(), pose
        waited = now - picture.arrived
        if waited < self.wait and not self._poses.hopeless(picture, now):
            return None
        self._pictures.popleft()
        raise ObservationError(
            "no pose",
            f"the image of {picture.stamp / NANOSECONDS:.3f} s has no pose: "
            f"{self._poses.missing(picture)} (waited {waited:.1f} s)",
        )
