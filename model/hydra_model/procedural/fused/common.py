# SPDX-License-Identifier: Apache-2.0
"""What the parts of the fused renderer share: the tables' columns, and small functions."""

from __future__ import annotations

import triton
import triton.language as tl

# Columns of the tables, and the constants of ``visibility`` and ``shading`` as Triton wants them.
BLOCK_SHAPE = tl.constexpr(7)
BLOCK_LOOK = tl.constexpr(8)
SUBJECT_SHAPE = tl.constexpr(13)
SUBJECT_LOOK = tl.constexpr(8)
# Where ``render_fused`` puts a world's looks in its row of the scene table.
GROUND_COLORS = tl.constexpr(0)
GROUND_PATTERN = tl.constexpr(9)
GROUND_WAVES = tl.constexpr(12)
SKY_COLORS = tl.constexpr(24)
MOUNTAIN_COLORS = tl.constexpr(30)
MOUNTAIN_WAVES = tl.constexpr(36)
MOUNTAIN_HEIGHT = tl.constexpr(40)
SUN_DIRECTION = tl.constexpr(41)
SCENE = tl.constexpr(44)

FAR = tl.constexpr(1e4)
FIRST_BLOCK = tl.constexpr(2)
HAZE_DISTANCE = tl.constexpr(80.0)
PI = tl.constexpr(3.141592653589793)
TURN = tl.constexpr(0.15915494309189535)  # turns in a radian


@triton.jit
def unit(x):
    """Clamp to [0, 1]."""
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def away_from_zero(x):
    return tl.where(tl.abs(x) < 1e-7, 1e-7, x)


@triton.jit
def sine(turns):
    """Return the sine of an angle in turns, to 1e-6 up to some turns.

    CUDA's own can reduce any argument, with so much code that it is half of a kernel's; ours are
    small where they are seen. Taylor's series for a quarter turn, mirrored.
    """
    t = turns - tl.floor(turns + 0.5)
    t = tl.where(tl.abs(t) > 0.25, sign(t) * 0.5 - t, t)
    x = t * (2 * PI)
    s = x * x
    p = s * (-1 / 39916800) + 1 / 362880
    p = p * s - 1 / 5040
    p = p * s + 1 / 120
    p = p * s - 1 / 6
    return (p * s + 1) * x


@triton.jit
def has_bit(bits, index):
    return ((bits >> index) & 1) == 1


@triton.jit
def blend(r, g, b, other_r, other_g, other_b, weight):
    return r + (other_r - r) * weight, g + (other_g - g) * weight, b + (other_b - b) * weight


@triton.jit
def three(table):
    """Load three neighbours."""
    return tl.load(table), tl.load(table + 1), tl.load(table + 2)


@triton.jit
def atan2(y, x):
    """Return the angle of (x, y), to 1e-6 radians: core Triton has no function for it.

    An odd polynomial for the angles up to 45 degrees (Abramowitz and Stegun, 4.4.49), mirrored.
    """
    across, along = tl.abs(y), tl.abs(x)
    t = tl.minimum(across, along) / tl.maximum(tl.maximum(across, along), 1e-20)
    s = t * t
    p = 0.0028662257 * s - 0.0161657367
    p = p * s + 0.0429096138
    p = p * s - 0.0752896400
    p = p * s + 0.1065626393
    p = p * s - 0.1420889944
    p = p * s + 0.1999355085
    p = p * s - 0.3333314528
    angle = (p * s + 1.0) * t
    angle = tl.where(across > along, PI / 2 - angle, angle)
    angle = tl.where(x < 0, PI - angle, angle)
    return tl.where(y < 0, -angle, angle)
