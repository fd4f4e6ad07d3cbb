# SPDX-License-Identifier: Apache-2.0
"""``textures`` as Triton functions of a tile of rays."""

from __future__ import annotations

import triton
import triton.language as tl

from hydra_model.procedural.fused.common import TURN, sign, sine, unit


@triton.jit
def soft_wave(x, cell, width):
    steepness = tl.minimum(tl.maximum(cell / width, 1.0), 8.0)
    finer = 1.5 * width / cell
    finer = finer * finer
    wave = sine(x * (0.5 / cell)) * steepness
    return tl.minimum(tl.maximum(wave, -1.0), 1.0) / (1 + finer * finer)


@triton.jit
def _within_one(x):
    return tl.minimum(tl.maximum(x, -1.0), 1.0)


@triton.jit
def wall_wave(pattern, cell, u, v, height, width):
    """Return bricks (pattern 4) or windows (5)."""
    brick_height, brick_length = 0.55 * cell, 1.3 * cell
    row = v / brick_height
    whole = tl.floor(row)
    place = u / brick_length + 0.5 * (whole - 2 * tl.floor(whole * 0.5))
    to_end = (0.5 - tl.abs(place - tl.floor(place) - 0.5)) * brick_length
    to_bed = (0.5 - tl.abs(row - whole - 0.5)) * brick_height
    joint = (tl.minimum(to_end, to_bed) - 0.035) / tl.maximum(width, 0.02)
    coarse = width / brick_height
    coarse *= coarse
    bricks = 0.6 + (_within_one(joint) - 0.6) / (1 + coarse * coarse)
    beside = (0.2 * height - tl.abs(v - 0.6 * height)) / width
    windows = -tl.minimum(soft_wave(u, 1.2 * cell, width), _within_one(beside))
    return tl.where(pattern > 4.5, windows, bricks)


@triton.jit
def wall_light(u, z, cell):
    """Return stains that tell places along a face apart, and dirt near the ground."""
    inner = sine((0.6 * u + 23 * cell) * TURN)
    stain = sine((0.9 * u + 40 * cell + 1.7 * inner) * TURN)
    return (1 + 0.09 * stain) * (0.86 + 0.14 * unit(z / 0.5))


@triton.jit
def box_normal(ahead, aside, rise, half_length, half_width):
    """Return the normal, in the box's own frame, of the face that a point lies on."""
    on_x, on_y = tl.abs(ahead) / tl.maximum(half_length, 1e-6), tl.abs(aside) / half_width
    on_z = tl.abs(rise)
    top = (on_z >= on_x) & (on_z >= on_y)
    front = (on_x >= on_y) & (~top)
    normal_x = tl.where(front, sign(ahead), 0.0)
    normal_y = tl.where(front | top, 0.0, sign(aside))
    return normal_x, normal_y, tl.where(top, sign(rise), 0.0)


@triton.jit
def body_wave(pattern, cell, ahead, aside, z, width):
    """Return a body's pattern, 1 where it has its own colour: plain, two-tone, rings or stripes."""
    front = _within_one((ahead + 0.08) / width)
    wave = tl.where(pattern < 1.5, front, soft_wave(z, cell, width))
    wave = tl.where(pattern > 2.5, soft_wave(ahead + aside, cell, width), wave)
    return tl.where(pattern < 0.5, 1.0, wave)
