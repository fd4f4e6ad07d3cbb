# SPDX-License-Identifier: Apache-2.0
"""The one form in which clips reach training and evaluation, wherever they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hydra_model.procedural.episodes import MINIMUM_PIXELS, Reentry, find_reentries


class UnusableClip(ValueError):
    """A clip that must be skipped: ``reason`` is a kind that can be counted, the text says it."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A context that was seen and the target that follows it.

    Frames are uint8 [T, H, W, 3] RGB, poses optical camera-to-world float64 [T, 4, 4] in
    metres, ``fov_x`` in radians. Masks, where there are any, are uint8 [T, H, W]: 0, or the
    number 1.. of the subject that a pixel shows (always 1 where subjects are not told apart).
    """

    name: str
    fps: float
    fov_x: float
    context_frames: NDArray[np.uint8]
    target_frames: NDArray[np.uint8]
    context_poses: NDArray[np.float64]
    target_poses: NDArray[np.float64]
    caption: str | None = None
    context_masks: NDArray[np.uint8] | None = None
    target_masks: NDArray[np.uint8] | None = None

    def events(self) -> list[Reentry]:
        """Return the subjects that come back in the target after at least 1 s out of sight.

        Read off the masks, so an empty list where there are none.
        """
        if self.context_masks is None or self.target_masks is None:
            return []
        masks = np.concatenate([self.context_masks, self.target_masks])
        height, width = masks.shape[1:]
        least = max(1, round(MINIMUM_PIXELS * height * width / 96 / 160))
        return [
            Reentry(subject, frame, unseen)
            for subject in range(1, int(masks.max(initial=0)) + 1)
            for frame, unseen in find_reentries(
                (masks == subject).sum((1, 2)) >= least, len(self.context_masks), self.fps
            )
        ]


class ClipSource(Protocol):
    """A data set: so many clips, each with a name that stays the same between runs."""

    @property
    def title(self) -> str:
        """What the data set is, in a few words."""
        ...

    def names(self) -> list[str]:
        """Return the name of every clip, in the order of their indices."""
        ...

    def survey(self, index: int) -> None:
        """Look at a clip without reading its frames; raise ``UnusableClip`` if it is no use."""
        ...

    def captions(self) -> list[str]:
        """Return every caption there is, to be embedded ahead of everything else."""
        ...

    def load(self, index: int) -> Clip:
        """Read or make a clip; raise ``UnusableClip`` if it is no use."""
        ...
