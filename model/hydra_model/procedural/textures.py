# SPDX-License-Identifier: Apache-2.0
"""Patterns as soft waves in [-1, 1], element-wise over rays; they fade where a pixel is coarser."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def soft_wave(x: Tensor, cell: Tensor, width: Tensor) -> Tensor:
    """A square wave of half period ``cell``, its edges as soft as ``width``; in [-1, 1]."""
    steepness = (cell / width).clamp(1, 8)
    fade = 1 / (1 + (1.5 * width / cell) ** 4)
    return (torch.sin(x * (math.pi / cell)) * steepness).clamp(-1, 1) * fade


def wall_wave(
    pattern: Tensor, cell: Tensor, u: Tensor, v: Tensor, height: Tensor, width: Tensor
) -> Tensor:
    """Return bricks (pattern 4) or windows (5) at u along a wall of ``height`` and v above ground.

    Bricks are light between dark joints, windows are dark. All in metres, [F, P].
    """
    brick_height, brick_length = 0.55 * cell, 1.3 * cell
    row = v / brick_height
    place = u / brick_length + 0.5 * torch.remainder(torch.floor(row), 2)
    to_end = (0.5 - (place - torch.floor(place) - 0.5).abs()) * brick_length
    to_bed = (0.5 - (row - torch.floor(row) - 0.5).abs()) * brick_height
    joint = (torch.minimum(to_end, to_bed) - 0.035) / width.clamp(min=0.02)
    # Where a pixel is coarser than a brick, what is left is the brick's and its joint's mean.
    fade = 1 / (1 + (width / brick_height) ** 4)
    bricks = 0.6 + (joint.clamp(-1, 1) - 0.6) * fade
    beside = (0.2 * height - (v - 0.6 * height).abs()) / width
    windows = -torch.minimum(soft_wave(u, 1.2 * cell, width), beside.clamp(-1, 1))
    return torch.where(pattern > 4.5, windows, bricks)


def wall_light(u: Tensor, z: Tensor, cell: Tensor) -> Tensor:
    """Return stains [F, P] that tell places along a face apart, and dirt near the ground."""
    stain = torch.sin(0.9 * u + 40 * cell + 1.7 * torch.sin(0.6 * u + 23 * cell))
    return (1 + 0.09 * stain) * (0.86 + 0.14 * (z / 0.5).clamp(0, 1))


def box_normal(
    ahead: Tensor, aside: Tensor, rise: Tensor, half_length: Tensor, half_width: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normal, in the box's own frame, of the face that a point lies on.

    ``ahead`` and ``aside`` are from the centre in metres, ``rise`` in half heights.
    """
    on_x = ahead.abs() / half_length.clamp(min=1e-6)
    on_y, on_z = aside.abs() / half_width, rise.abs()
    top = (on_z >= on_x) & (on_z >= on_y)
    front = (on_x >= on_y) & ~top
    return (
        torch.where(front, ahead.sign(), 0.0),
        torch.where(front | top, 0.0, aside.sign()),
        torch.where(top, rise.sign(), 0.0),
    )


def body_wave(
    pattern: Tensor, cell: Tensor, ahead: Tensor, aside: Tensor, z: Tensor, width: Tensor
) -> Tensor:
    """Return a body's pattern, 1 where it has its own colour: plain, two-tone, rings or stripes."""
    front = ((ahead + 0.08) / width).clamp(-1, 1)
    wave = torch.where(pattern < 1.5, front, soft_wave(z, cell, width))
    wave = torch.where(pattern > 2.5, soft_wave(ahead + aside, cell, width), wave)
    return torch.where(pattern < 0.5, 1.0, wave)
