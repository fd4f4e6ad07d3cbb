# SPDX-License-Identifier: Apache-2.0
"""Frames as pictures for people: enlarged, captioned, side by side, on a contact sheet.

Frames are uint8 [T, H, W, 3] RGB. Nothing here is read by a program again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (32, 32, 36)
BAND: Colour = (32, 32, 36)
BAND_INK: Colour = (236, 236, 236)
MARK: Colour = (236, 112, 32)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 8


def enlarged(frames: np.ndarray, *, min_width: int) -> np.ndarray:
    """Enlarge small frames by the smallest whole factor that reaches ``min_width`` pixels."""
    factor = math.ceil(min_width / frames.shape[2])
    if factor <= 1:
        return frames
    # Lanczos rather than nearest: the eye takes blocks for detail of the prediction.
    size = (frames.shape[2] * factor, frames.shape[1] * factor)
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_LANCZOS4) for f in frames])


def captioned(
    frames: np.ndarray, captions: Sequence[str], *, marked: Sequence[bool] | None = None
) -> np.ndarray:
    """Put a band with a line of text under each frame; ``marked`` frames get a coloured band."""
    if len(captions) != len(frames):
        raise ValueError(f"{len(captions)} captions for {len(frames)} frames; one each is needed")
    marks = [False] * len(frames) if marked is None else list(marked)
    width = frames.shape[2]
    size = _text_height(width)
    pictures = []
    for frame, caption, mark in zip(frames, captions, marks, strict=True):
        band = np.full((2 * size, width, 3), MARK if mark else BAND, np.uint8)
        _write(band, caption, size, BAND_INK if not mark else PAPER, left=size // 2)
        pictures.append(np.concatenate([frame, band]))
    return np.stack(pictures)


def titled(frames: np.ndarray, title: str) -> np.ndarray:
    """Put the same line of text above each frame."""
    size = _text_height(frames.shape[2])
    band = np.full((2 * size, frames.shape[2], 3), PAPER, np.uint8)
    _write(band, title, size, INK, left=size // 2)
    return np.stack([np.concatenate([band, frame]) for frame in frames])


def side_by_side(*columns: np.ndarray, gap: int = _GAP) -> np.ndarray:
    """Put clips of one length and height beside each other, ``gap`` white pixels between."""
    shapes = {column.shape[:2] for column in columns}
    if len(shapes) != 1:
        raise ValueError(f"clips have different lengths or heights: {sorted(shapes)}")
    white = np.full((*columns[0].shape[:2], gap, 3), PAPER, np.uint8)
    parts = [part for column in columns for part in (white, column)][1:]
    return np.concatenate(parts, axis=2)


def contact_sheet(rows: Sequence[tuple[str, np.ndarray]], columns: int) -> np.ndarray:
    """Lay out ``columns`` frames of each row, evenly spaced in time, under the row's label.

    ``rows`` are (label, frames); all frames have one size. Small frames are enlarged. A row
    with fewer frames leaves the rest of its line empty.

    Returns:
        uint8 [H, W, 3] RGB.
    """
    if not rows or columns < 1:
        raise ValueError(f"{len(rows)} rows and {columns} columns; at least one each is needed")
    strips = []
    for label, frames in rows:
        chosen = frames[evenly_spaced(len(frames), columns)]
        pictures = enlarged(chosen, min_width=240)
        missing = np.full((columns - len(pictures), *pictures.shape[1:]), PAPER, np.uint8)
        strip = side_by_side(*np.concatenate([pictures, missing])[:, None])[0]
        size = round(1.2 * _text_height(pictures.shape[2]))
        head = np.full((2 * size, strip.shape[1], 3), PAPER, np.uint8)
        _write(head, label, size, INK, left=0)
        strips += [head, strip]
    widths = {strip.shape[1] for strip in strips}
    if len(widths) != 1:
        raise ValueError("the rows' frames have different sizes; one size is needed")
    sheet = np.concatenate(strips)
    return np.pad(sheet, ((_GAP, 2 * _GAP), (2 * _GAP,) * 2, (0, 0)), constant_values=PAPER[0])


def evenly_spaced(length: int, count: int) -> np.ndarray:
    """Return up to ``count`` different indices from the first to the last of ``length`` items."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int))


def _text_height(width: int) -> int:
    """Return the height in pixels of capital letters that read well in a picture so wide."""
    return min(max(9, round(width / 20)), 16)


def _write(picture: np.ndarray, text: str, size: int, colour: Colour, *, left: int) -> None:
    """Write a line into a band (in place), centred in height, shrunk if it is too long."""
    (_, height), _ = cv2.getTextSize("X", _FONT, 1.0, 1)
    scale = size / height
    thickness = max(1, round(size / 9))
    (length, _), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    room = picture.shape[1] - 2 * left
    if length > room:
        scale *= room / length
    baseline = (picture.shape[0] + round(height * scale)) // 2
    cv2.putText(picture, text, (left, baseline), _FONT, scale, colour, thickness, cv2.LINE_AA)
