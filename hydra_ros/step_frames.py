# SPDX-License-Identifier: Apache-2.0
"""Which of the camera's frames are those of a step, while others may still be coming.

A commit and a step that was not waited for go on showing frames. Where those end is where the
camera is when a step's own frames begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hydra_ros.frame_collector import ReceivedFrame

SAME_POSE = 1e-5  # metres, and of a rotation's numbers: what a message's quaternion rounds off


@dataclass(frozen=True, kw_only=True)
class StepFrames:
    """What is known of a step's frames before they come.

    ``poses`` [N, 4, 4] are those of the step, in the world or ``relative`` to where the camera is;
    None where only the message is known. ``start`` [4, 4] is where the camera will be when all
    frames have come that were asked for before; None where there are none to expect.
    """

    poses: np.ndarray | None
    relative: bool
    start: np.ndarray | None

    @property
    def first(self) -> np.ndarray | None:
        """The pose [4, 4] of the first frame; None where any frame may be the first."""
        if self.start is None or self.poses is None or not len(self.poses):
            return None
        return self.start @ self.poses[0] if self.relative else self.poses[0]

    def among(self, frames: list[ReceivedFrame]) -> list[ReceivedFrame]:
        """Return the frames that came since the first of the step, in order."""
        first = self.first
        if first is None:
            return frames
        for i, frame in enumerate(frames):
            if np.allclose(frame.pose, first, atol=SAME_POSE):
                return frames[i:]
        return []

    def end(self, frames: list[ReceivedFrame]) -> np.ndarray | None:
        """Return the pose [4, 4] of the last frame, which may still be coming.

        ``frames`` are those of the step that have come. None where the end is not known: of a
        relative step whose start is not known and of which no frame has come.
        """
        if self.poses is None or not len(self.poses):
            return None
        if not self.relative:
            return self.poses[-1]
        start = self.start
        if frames:
            start = frames[0].pose @ np.linalg.inv(self.poses[0])
        return None if start is None else start @ self.poses[-1]
