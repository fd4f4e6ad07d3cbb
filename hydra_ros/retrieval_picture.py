# SPDX-License-Identifier: Apache-2.0
"""The transformer's own retrieval as a picture to look at."""

from __future__ import annotations

import cv2
import numpy as np

CELL = 28  # pixels of a pair of frames
LEFT, TOP, RIGHT, BOTTOM = 92, 40, 16, 44  # pixels around the map
INK, PAPER = (30, 30, 30), 250


def retrieval_picture(shares: np.ndarray, ages: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return a heat map, uint8 [H, W, 3] RGB.

    ``shares`` [target, context] say how often each latent frame of the chunk attended to each
    selected one, 0 to 1; ``ages`` [context] are those of the selected frames and ``times`` [target]
    of the chunk's, both in seconds since the chunk's first frame.
    """
    rows, columns = shares.shape
    levels = np.clip(255 * shares, 0, 255).astype(np.uint8)
    cells = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    height, width = TOP + rows * CELL + BOTTOM, max(LEFT + columns * CELL + RIGHT, 420)
    picture = np.full((height, width, 3), PAPER, np.uint8)
    large = cells.repeat(CELL, axis=0).repeat(CELL, axis=1)
    large[::CELL], large[:, ::CELL] = PAPER, PAPER  # a line between the cells
    picture[TOP : TOP + rows * CELL, LEFT : LEFT + columns * CELL] = large
    _write(picture, "frame of the chunk (down) attends to remembered frame (across)", 8, 24)
    for row in range(rows):
        _write(picture, f"+{times[row]:.2f} s", 8, TOP + row * CELL + 19)
    for column in range(0, columns, 2):  # every other: the labels are wider than a cell
        x = LEFT + column * CELL
        _write(picture, f"-{ages[column]:.1f}", x, TOP + rows * CELL + 18)
    _write(picture, "age of the remembered frame, s", LEFT, height - 8)
    return picture


def _write(picture: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
