# SPDX-License-Identifier: Apache-2.0
"""Single observations -> clips that go into memory: which frames are taken together, and when."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from hydra_model.chunks import chunk_lengths
from hydra_ros.conversions import NANOSECONDS

# Frames are one clip where they follow each other at the frame rate, give or take this part.
JITTER = 0.25


@dataclass(frozen=True)
class Observation:
    """A real picture, uint8 [H, W, 3] RGB in the model's size, its optical pose [4, 4] and stamp
    in nanoseconds."""

    picture: np.ndarray
    pose: np.ndarray
    stamp: int


@dataclass(frozen=True)
class ObservedClip:
    """T = 1 + 4 k observations at the frame rate: frames [T, H, W, 3], poses [T, 4, 4], stamps.

    ``gaps`` [T] are the simulated seconds between each frame and the one before it; the first is
    that since the world's last frame.
    """

    frames: np.ndarray
    poses: np.ndarray
    stamps: list[int]
    gaps: np.ndarray


class ClipCollector:
    """Collects observations until they are a clip.

    A clip is complete when it has ``longest`` frames, when the next observation does not follow
    at the frame rate, when none came for ``patience`` seconds, or when it is needed now. What is
    not 1 + 4 k frames is split into shorter clips.
    """

    def __init__(self, period: float, *, longest: int, patience: float) -> None:
        self.longest = longest
        self._period = period
        self._patience = patience
        self._runs: deque[list[Observation]] = deque()
        self._idle = 0.0
        self._before: int | None = None  # stamp of the last frame, if it was observed too

    def __len__(self) -> int:
        """Return the number of observations that wait."""
        return sum(map(len, self._runs))

    def add(self, observation: Observation) -> None:
        """Take the next observation, newer than all before."""
        self._idle = 0.0
        if self._runs and len(self._runs[-1]) < self.longest:
            gap = (observation.stamp - self._runs[-1][-1].stamp) / NANOSECONDS
            if abs(gap / self._period - 1.0) <= JITTER:
                self._runs[-1].append(observation)
                return
        self._runs.append([observation])

    def idle(self, seconds: float) -> None:
        """Note that so much time went by without an observation."""
        self._idle += seconds

    def imagined(self) -> None:
        """Note that the world went on by itself: the next observation is its next frame."""
        self._before = None

    def clear(self) -> None:
        """Forget what waits: there is another world."""
        self._runs.clear()
        self._before = None

    @property
    def complete(self) -> bool:
        """Whether a clip is ready though nothing needs it now."""
        if not self._runs:
            return False
        return (
            len(self._runs) > 1
            or len(self._runs[0]) >= self.longest
            or self._idle >= self._patience
        )

    def take(self) -> ObservedClip | None:
        """Return the oldest clip, complete or not, None where nothing waits."""
        if not self._runs:
            return None
        run = self._runs[0]
        length = chunk_lengths(len(run), self.longest)[0]
        clip, rest = run[:length], run[length:]
        if rest:
            self._runs[0] = rest
        else:
            self._runs.popleft()
        stamps = [observation.stamp for observation in clip]
        gaps = np.diff(np.array([self._before or 0, *stamps])) / NANOSECONDS
        if self._before is None:
            gaps[0] = self._period
        self._before = stamps[-1]
        return ObservedClip(
            np.stack([observation.picture for observation in clip]),
            np.stack([observation.pose for observation in clip]),
            stamps,
            gaps,
        )
