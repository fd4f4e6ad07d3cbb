# SPDX-License-Identifier: Apache-2.0
"""A moment of a world, immutable: what a step starts from and what it leaves behind."""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from hydra_model.memory import MemoryBank, Segment


@dataclass(frozen=True)
class State:
    """An immutable snapshot: memory, clock, seed, prompt. Taking one copies nothing.

    ``pose [4, 4]`` (optical camera-to-world, metres) and ``time`` (simulated seconds) are those
    of the last frame, ``chunks`` counts what was imagined, ``fov_x`` is in radians.
    """

    memory: MemoryBank
    pose: npt.NDArray[np.float64]
    time: float
    seed: int
    chunks: int
    prompt: str
    fov_x: float

    def followed_by(self, segment: Segment, pose: npt.NDArray[np.float64], time: float) -> State:
        """Return the state after a segment whose last frame has that pose and time.

        What moved in the segment's thumbnails is found here.
        """
        return dataclasses.replace(
            self,
            memory=self.memory.add(self.memory.watched(segment, self.fov_x)),
            pose=pose,
            time=time,
            chunks=self.chunks + (segment.origin == "imagined"),
        )


def check_fov_x(fov_x: float) -> float:
    """Return a horizontal field of view in radians, or raise ``ValueError``."""
    if not 0.0 < fov_x < np.pi:
        raise ValueError(f"fov_x is {fov_x}; accepted: radians between 0 and pi")
    return float(fov_x)


def check_seed(seed: SupportsIndex) -> int:
    """Return a seed as a whole number, or raise ``ValueError``."""
    try:
        return operator.index(seed)
    except TypeError as error:
        raise ValueError(f"seed is {seed!r}; accepted: a whole number") from error
