# SPDX-License-Identifier: Apache-2.0
"""Rollout goals: what is asked for, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from nav_msgs.msg import Path

from hydra_ros.action import Rollout
from hydra_ros.commands import CameraFrames, CommandError
from hydra_ros.planners import frames_of_path

ENCODINGS = ("rgb8", "jpeg", "png")
JPEG_BYTES = 0.6  # a pixel; more than pictures that are not noise take at quality 90
FRAME_BYTES = 1000  # pose, headers and the file's own header


class GoalError(ValueError):
    """A goal that cannot be served; the message says why and what would be accepted."""


@dataclass(frozen=True, kw_only=True)
class GoalLimits:
    """What a goal may ask for.

    ``candidates`` counts paths times samples, ``path_frames`` the frames of one path,
    ``result_bytes`` what all returned pictures may take.
    """

    candidates: int
    path_frames: int
    result_bytes: int


@dataclass(frozen=True, kw_only=True)
class RolloutGoal:
    """A goal that can be served.

    ``paths`` are optical poses [T, 4, 4] in the world, one a frame. ``every`` is 1 for all
    frames, n for every n-th, 0 for the last alone; ``seed`` None takes the state's own.
    """

    paths: tuple[np.ndarray, ...]
    samples: int
    every: int
    encoding: str
    priority: int
    seed: int | None
    keep: bool

    @property
    def returned_frames(self) -> int:
        """Pictures in the result."""
        return returned_frames((len(path) for path in self.paths), self.samples, self.every)


def read_goal(
    goal: Rollout.Goal,
    *,
    camera: CameraFrames,
    start: np.ndarray,
    fps: float,
    size: tuple[int, int],
    limits: GoalLimits,
) -> RolloutGoal:
    """Check a goal for a state whose camera is at the optical pose ``start`` [4, 4].

    ``size`` is (height, width) of the pictures.

    Raises:
        GoalError: something in it cannot be served.
    """
    samples = goal.samples or 1
    if not goal.paths:
        raise GoalError("the goal has no candidate paths; at least one is needed")
    if len(goal.paths) * samples > limits.candidates:
        raise GoalError(
            f"{len(goal.paths)} paths with {samples} sample{'s' * (samples > 1)} each are "
            f"{len(goal.paths) * samples} candidates; at most {limits.candidates} are accepted "
            "(parameter max_rollout_candidates)"
        )
    paths = tuple(
        _read_path(index, path, camera, start, 1.0 / fps, limits.path_frames)
        for index, path in enumerate(goal.paths)
    )
    encoding = goal.encoding or "jpeg"
    if encoding not in ENCODINGS:
        raise GoalError(
            f"encoding is {goal.encoding!r}; accepted: {', '.join(ENCODINGS)}, or empty"
        )
    checked = RolloutGoal(
        paths=paths,
        samples=samples,
        every=_every(goal),
        encoding=encoding,
        priority=goal.priority,
        seed=goal.seed or None,
        keep=goal.keep,
    )
    _check_size(checked, size, limits.result_bytes)
    return checked


def returned_frames(lengths: Iterable[int], samples: int, every: int) -> int:
    """Return how many pictures come back of paths of so many frames."""
    if every == 0:
        return samples * sum(1 for _ in lengths)
    # Every n-th, and the last where it is none of them.
    return samples * sum(-(-length // every) for length in lengths)


def picture_bytes(encoding: str, size: tuple[int, int]) -> int:
    """Return how much of a result one picture takes, about; of raw and PNG the most it can."""
    height, width = size
    per_pixel = JPEG_BYTES if encoding == "jpeg" else 3.0
    return round(height * width * per_pixel) + FRAME_BYTES


def _read_path(
    index: int, path: Path, camera: CameraFrames, start: np.ndarray, period: float, longest: int
) -> np.ndarray:
    if len(path.poses) == 1:
        raise GoalError(f"path {index} has one pose; a candidate needs two or more")
    try:
        return frames_of_path(camera.read_path(path), start, period, longest)
    except CommandError as error:
        if error.reason == "queue full":
            raise GoalError(
                f"path {index} takes more than {longest} frames at {1 / period:g} Hz "
                "(parameter max_pending_frames)"
            ) from None
        raise GoalError(f"path {index}: {error}") from None


def _every(goal: Rollout.Goal) -> int:
    if goal.frames == Rollout.Goal.FRAMES_ALL:
        return 1
    if goal.frames == Rollout.Goal.FRAMES_LAST:
        return 0
    if goal.frames != Rollout.Goal.FRAMES_EVERY_NTH:
        raise GoalError(f"frames is {goal.frames}; accepted: 0 (all), 1 (every n-th), 2 (the last)")
    if goal.every_nth < 1:
        raise GoalError(f"every_nth is {goal.every_nth}; accepted: 1 or more")
    return goal.every_nth


def _check_size(goal: RolloutGoal, size: tuple[int, int], most: int) -> None:
    lengths = [len(path) for path in goal.paths]

    def needed(every: int, encoding: str) -> int:
        return returned_frames(lengths, goal.samples, every) * picture_bytes(encoding, size)

    asked = needed(goal.every, goal.encoding)
    if asked <= most:
        return
    fitting = []
    if needed(goal.every, "jpeg") <= most:
        fitting.append("jpeg")
    sparser = (n for n in range(2, max(lengths)) if n > goal.every)
    if goal.every and (nth := next((n for n in sparser if needed(n, goal.encoding) <= most), 0)):
        fitting.append(f"every {nth}th frame")
    if goal.every and needed(0, goal.encoding) <= most:
        fitting.append("the last frame alone")
    candidates = most // max(asked // (len(lengths) * goal.samples), 1)
    if candidates:
        fitting.append(f"{candidates} candidate{'s' * (candidates > 1)}")
    raise GoalError(
        f"{goal.returned_frames} frames as {goal.encoding} take about {asked / 1e6:.1f} MB; a "
        f"result may take {most / 1e6:.1f} MB (parameter max_result_bytes). What would fit: "
        f"{', or '.join(fitting) or 'nothing of this'}"
    )
