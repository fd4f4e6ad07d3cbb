# SPDX-License-Identifier: Apache-2.0
"""Small pictures of remembered frames: to show them, and to see what moved."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

THUMBNAIL_WIDTH = 48  # pixels


def make_thumbnails(
    frames: npt.NDArray[np.uint8], width: int = THUMBNAIL_WIDTH
) -> npt.NDArray[np.uint8]:
    """Scale frames uint8 [T, H, W, 3] down to ``width`` pixels by the mean over areas.

    Frames that are narrower already stay as they are.
    """
    full_height, full_width = frames.shape[1:3]
    if full_width <= width:
        return frames.copy()
    size = (width, max(1, round(full_height * width / full_width)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
