# SPDX-License-Identifier: Apache-2.0
"""Find a subject in a frame by its own colour.

Subjects of the procedural world are saturated and at least 60 degrees of hue apart; nothing
else in it is saturated (blocks and ground up to 0.5, the sky up to 0.65). So a pixel belongs
to a subject where its hue is near the subject's and its saturation is high, and half-faded
ghosts of a subject do not count.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

HUE_TOLERANCE = 25 / 360  # turns
LOWEST_SATURATION = 0.68
LOWEST_CHROMA = 0.16  # largest minus smallest channel; darker pixels have no reliable hue
FOUND_SHARE = 0.25  # of the pixels that the true subject shows
FOUND_PIXELS = 4
_SMALLEST_WINDOW = 9  # pixels
_SHIFTS = 3  # rounds in which the window is moved onto its own content


class Place(NamedTuple):
    """Where a colour gathers: column x and row y [N] in pixels, and how many are there [N]."""

    x: Tensor
    y: Tensor
    pixels: Tensor


def hue_and_saturation(frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return hue (turns), saturation and chroma, float32 [..., H, W], of uint8 frames."""
    rgb = frames.float() / 255
    largest, index = rgb.max(-1)
    chroma = largest - rgb.amin(-1)
    safe = chroma.clamp(min=1e-6)
    red, green, blue = rgb.unbind(-1)
    hue = torch.where(index == 0, (green - blue) / safe, (blue - red) / safe + 2)
    hue = torch.where(index == 2, (red - green) / safe + 4, hue)
    return torch.remainder(hue / 6, 1), chroma / largest.clamp(min=1e-6), chroma


def colourful(saturation: Tensor, chroma: Tensor) -> Tensor:
    """Return where a pixel is as saturated as only subjects are, bool."""
    return (saturation >= LOWEST_SATURATION) & (chroma >= LOWEST_CHROMA)


def hue_distance(hue: Tensor, own: Tensor) -> Tensor:
    """Return the distance around the circle of hues, in turns (0 to 0.5)."""
    return (torch.remainder(hue - own + 0.5, 1) - 0.5).abs()


def own_hue(frames: Tensor, mask: Tensor) -> Tensor:
    """Return the hue (turns, float32 [N]) of a subject in frames [N, T, H, W, 3] under masks.

    The chroma-weighted circular mean over the colourful pixels under ``mask`` bool
    [N, T, H, W]; NaN where there are none.
    """
    hue, saturation, chroma = hue_and_saturation(frames)
    weight = chroma * (mask & colourful(saturation, chroma))
    angle = hue * (2 * torch.pi)
    axes = (1, 2, 3)
    sine, cosine = (weight * angle.sin()).sum(axes), (weight * angle.cos()).sum(axes)
    mean = torch.remainder(torch.atan2(sine, cosine) / (2 * torch.pi), 1)
    return torch.where(weight.sum(axes) > 0, mean, torch.nan)


def densest(match: Tensor, box_width: Tensor, box_height: Tensor) -> Place:
    """Find where the most pixels of ``match`` bool [N, H, W] lie in one box.

    The boxes' sizes [N] are in pixels; a box reaches at least ``_SMALLEST_WINDOW``. The place is
    the centroid of the pixels in the best box, after the box was moved onto its own centroid a
    few times; with no pixel at all its ``pixels`` are 0 and the place is meaningless.
    """
    boxes = _Boxes(match, box_width, box_height)
    x, y = boxes.best_centre()
    for _ in range(_SHIFTS):
        place = boxes.centroid(x, y)
        x, y = place.x.round().long(), place.y.round().long()
    return boxes.centroid(x, y)


def gathered(match: Tensor, box_width: Tensor, box_height: Tensor, at: Place) -> Tensor:
    """Count the pixels of ``match`` [N, H, W] in boxes around given places, float32 [N]."""
    boxes = _Boxes(match, box_width, box_height)
    return boxes.centroid(at.x.round().long(), at.y.round().long()).pixels


def box_sizes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the width and height [N] in pixels of the bounding boxes of masks [N, H, W]."""
    columns, rows = mask.any(1), mask.any(2)

    def extent(hit: Tensor) -> Tensor:
        first = hit.int().argmax(1)
        last = hit.shape[1] - 1 - hit.flip(1).int().argmax(1)
        return torch.where(hit.any(1), last - first + 1, 0)

    return extent(columns), extent(rows)


class _Boxes:
    """Sums over boxes of one size per picture, by integral images: any box in constant time."""

    def __init__(self, match: Tensor, box_width: Tensor, box_height: Tensor) -> None:
        self.height, self.width = match.shape[1:]
        self.half_width = box_width.clamp(min=_SMALLEST_WINDOW) // 2 + 1
        self.half_height = box_height.clamp(min=_SMALLEST_WINDOW) // 2 + 1
        weight = match.float()
        columns = torch.arange(self.width, device=match.device, dtype=torch.float32)
        rows = torch.arange(self.height, device=match.device, dtype=torch.float32)[:, None]
        # Sums stay below 2**24 for frames of up to 400x240 pixels; beyond, the places are
        # rounded a little.
        self.sums = [_integral(w) for w in (weight, weight * columns, weight * rows)]

    def best_centre(self) -> tuple[Tensor, Tensor]:
        integral = self.sums[0]
        rows = torch.arange(self.height, device=integral.device)
        columns = torch.arange(self.width, device=integral.device)
        top, bottom = self._limits(rows[None], self.half_height[:, None], self.height)
        left, right = self._limits(columns[None], self.half_width[:, None], self.width)

        def take_rows(index: Tensor) -> Tensor:
            return integral.gather(1, index[:, :, None].expand(-1, -1, self.width + 1))

        band = take_rows(bottom) - take_rows(top)  # [N, H, W + 1]

        def take_columns(index: Tensor) -> Tensor:
            return band.gather(2, index[:, None].expand(-1, self.height, -1))

        count = take_columns(right) - take_columns(left)  # [N, H, W]
        best = count.flatten(1).argmax(1)
        return best % self.width, torch.div(best, self.width, rounding_mode="floor")

    def centroid(self, x: Tensor, y: Tensor) -> Place:
        top, bottom = self._limits(y, self.half_height, self.height)
        left, right = self._limits(x, self.half_width, self.width)
        picture = torch.arange(len(x), device=x.device)

        def total(s: Tensor) -> Tensor:
            return (
                s[picture, bottom, right] - s[picture, top, right]
                - s[picture, bottom, left] + s[picture, top, left]
            )  # fmt: skip

        count, across, down = (total(s) for s in self.sums)
        safe = count.clamp(min=1)
        empty = count < 0.5
        return Place(
            torch.where(empty, x.float(), across / safe),
            torch.where(empty, y.float(), down / safe),
            count,
        )

    @staticmethod
    def _limits(centre: Tensor, half: Tensor, size: int) -> tuple[Tensor, Tensor]:
        return (centre - half).clamp(0, size), (centre + half + 1).clamp(0, size)


def _integral(weight: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(weight, (1, 0, 1, 0))
    return padded.cumsum(1).cumsum(2)
