# SPDX-License-Identifier: Apache-2.0
"""``shadows`` as Triton functions of a tile's ground points, for the shadows that can reach it."""

from __future__ import annotations

import triton
import triton.language as tl

from hydra_model.procedural.fused.common import (
    BLOCK_SHAPE,
    SUBJECT_SHAPE,
    SUN_DIRECTION,
    has_bit,
    three,
    unit,
)

_SHADED = tl.constexpr(0.42)
_SOFTNESS = tl.constexpr(0.12)


@triton.jit
def _apart(x):
    return tl.where(tl.abs(x) < 1e-5, 1e-5, x)


@triton.jit
def _cast_by_box(dx, dy, half_x, half_y, half_z, cos, sin, sun_x, sun_y, sun_z):
    across_x, across_y = sun_x / sun_z, sun_y / sun_z
    inverse_u = 1 / _apart(cos * across_x + sin * across_y)
    inverse_v = 1 / _apart(cos * across_y - sin * across_x)
    u, v = -(cos * dx + sin * dy) * inverse_u, -(cos * dy - sin * dx) * inverse_v
    span_u, span_v = half_x * tl.abs(inverse_u), half_y * tl.abs(inverse_v)
    enter = tl.maximum(tl.maximum(u - span_u, v - span_v), 0.0)
    leave = tl.minimum(tl.minimum(u + span_u, v + span_v), 2 * half_z)
    return 1 - _SHADED * unit((leave - enter) / _SOFTNESS + 0.5)


@triton.jit
def _cast_by_ellipsoid(dx, dy, z, radius, half, sun_x, sun_y, sun_z):
    wide, high = 1 / radius, 1 / half
    px, py, pz = dx * wide, dy * wide, -z * high
    sx, sy, sz = sun_x * wide, sun_y * wide, sun_z * high
    along = px * sx + py * sy + pz * sz
    apart = px * px + py * py + pz * pz - along * along / (sx * sx + sy * sy + sz * sz)
    return 1 - _SHADED * unit((1.25 - apart) / 0.5)


@triton.jit
def light_on_ground(
    x, y, blocks, subjects, scene, dark_blocks, dark_subjects,
    BLOCKS: tl.constexpr, SUBJECTS: tl.constexpr, RICH: tl.constexpr,
):  # fmt: skip
    """Return what shadows leave of the light at ground points.

    ``dark_blocks`` and ``dark_subjects`` have a bit for each whose shadow may fall into the tile.
    """
    contact, cast = tl.zeros_like(x) + 1.0, tl.zeros_like(x) + 1.0
    sun_x, sun_y, sun_z = three(scene + SUN_DIRECTION)
    for i in range(SUBJECTS):
        if has_bit(dark_subjects, i):
            subject = subjects + i * SUBJECT_SHAPE
            centre_x, centre_y, cos = three(subject)
            sin, height, radius = three(subject + 3)
            dx, dy = x - centre_x, y - centre_y
            reach = 1.25 * radius
            contact *= 1 - 0.55 * unit(1.6 - (dx * dx + dy * dy) / (reach * reach))
            if RICH:
                centre, half, head_centre = three(subject + 6)
                head_radius, head_half = tl.load(subject + 9), tl.load(subject + 10)
                length = tl.load(subject + 12)
                own = _cast_by_ellipsoid(
                    dx, dy, head_centre * height, head_radius * height, head_half * height,
                    sun_x, sun_y, sun_z,
                )  # fmt: skip
                cast = tl.minimum(cast, own)
                if length > 0:
                    own = _cast_by_box(
                        dx, dy, length, radius, half * height, cos, sin, sun_x, sun_y, sun_z
                    )
                else:
                    own = _cast_by_ellipsoid(
                        dx, dy, centre * height, radius, half * height, sun_x, sun_y, sun_z
                    )
                cast = tl.minimum(cast, own)
    for i in range(BLOCKS):
        if has_bit(dark_blocks, i):
            block = blocks + i * BLOCK_SHAPE
            centre_x, centre_y, half_x = three(block)
            half_y, half_z, cos = three(block + 3)
            sin = tl.load(block + 6)
            dx, dy = x - centre_x, y - centre_y
            u = tl.maximum(tl.abs(cos * dx + sin * dy) - half_x, 0.0)
            v = tl.maximum(tl.abs(cos * dy - sin * dx) - half_y, 0.0)
            contact *= 1 - 0.4 * tl.maximum(1 - 3 * (u + v), 0.0)
            if RICH:
                own = _cast_by_box(dx, dy, half_x, half_y, half_z, cos, sin, sun_x, sun_y, sun_z)
                cast = tl.minimum(cast, own)
    return contact * cast
