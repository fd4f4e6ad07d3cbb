# SPDX-License-Identifier: Apache-2.0
"""What a world remembers: every committed latent frame with its pose and time.

Pure data. A bank never changes: adding to it gives a new bank that shares all storage with
the old one, so that a snapshot is the bank itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Origin = Literal["observed", "imagined"]


@dataclass(frozen=True)
class Segment:
    """Latent frames that were encoded or imagined as one clip.

    ``latents [C, k, h, w]``, ``poses [k, 4, 4]`` optical camera-to-world in metres, ``times [k]``
    simulated seconds (of the last video frame that each latent frame covers).
    """

    latents: Tensor
    poses: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]
    origin: Origin

    def __post_init__(self) -> None:
        count = self.latents.shape[1]
        if self.poses.shape != (count, 4, 4) or self.times.shape != (count,):
            raise ValueError(
                f"a segment of {count} latent frames got poses {self.poses.shape} and times "
                f"{self.times.shape}; accepted: ({count}, 4, 4) and ({count},)"
            )

    def last(self, count: int) -> Segment:
        """Return the newest ``count`` latent frames, without copying."""
        return Segment(
            self.latents[:, -count:], self.poses[-count:], self.times[-count:], self.origin
        )


@dataclass(frozen=True)
class Context:
    """Latent frames chosen to condition a chunk, oldest first; shapes as in ``Segment``."""

    latents: Tensor
    poses: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]


@dataclass(frozen=True)
class MemoryBank:
    """All segments since the world was reset, oldest first."""

    segments: tuple[Segment, ...] = field(default=())

    def __len__(self) -> int:
        """Return the number of latent frames."""
        return sum(len(segment.times) for segment in self.segments)

    @property
    def bytes(self) -> int:
        """Memory that the latents take."""
        return sum(s.latents.numel() * s.latents.element_size() for s in self.segments)

    def add(self, segment: Segment) -> MemoryBank:
        """Return a bank that also holds ``segment``; this one stays as it is."""
        if self.segments and segment.times[0] <= self.segments[-1].times[-1]:
            raise ValueError(
                f"a segment that starts at {segment.times[0]:.3f} s cannot follow memory that "
                f"ends at {self.segments[-1].times[-1]:.3f} s"
            )
        return MemoryBank((*self.segments, segment))

    def recent(self, count: int, multiple: int = 1) -> Context:
        """Return the newest latent frames: at most ``count``, and a multiple of ``multiple``.

        The memory tokenizer joins frames in groups of ``multiple``; a group that is not full
        would be dropped from its newest end, so the oldest frames are left out instead.
        """
        count = min(count, len(self))
        count -= count % multiple
        if count == 0:
            raise ValueError(
                f"the memory holds {len(self)} latent frames; at least {multiple} are needed"
            )
        chosen: list[Segment] = []
        for segment in reversed(self.segments):
            part = segment.last(min(count, len(segment.times)))
            chosen.append(part)
            count -= len(part.times)
            if count == 0:
                break
        chosen.reverse()
        return Context(
            torch.cat([s.latents for s in chosen], dim=1),
            np.concatenate([s.poses for s in chosen]),
            np.concatenate([s.times for s in chosen]),
        )
