# SPDX-License-Identifier: Apache-2.0
"""``visibility`` as Triton functions of a tile of rays, for the primitives that a tile can see."""

from __future__ import annotations

import triton
import triton.language as tl

from hydra_model.procedural.fused.common import (
    BLOCK_SHAPE,
    FAR,
    FIRST_BLOCK,
    SUBJECT_SHAPE,
    away_from_zero,
    has_bit,
    three,
)


@triton.jit
def _meet_box(ox, oy, oz, dx, dy, dz, x, y, half_x, half_y, half_z, cos, sin):
    px, py = ox - x, oy - y
    inverse_x = 1 / away_from_zero(cos * dx + sin * dy)
    inverse_y = 1 / away_from_zero(cos * dy - sin * dx)
    inverse_z = 1 / away_from_zero(dz)
    middle_x = -(cos * px + sin * py) * inverse_x
    middle_y = -(cos * py - sin * px) * inverse_y
    middle_z = (half_z - oz) * inverse_z
    span_x, span_y = half_x * tl.abs(inverse_x), half_y * tl.abs(inverse_y)
    span_z = half_z * tl.abs(inverse_z)
    enter = tl.maximum(tl.maximum(middle_x - span_x, middle_y - span_y), middle_z - span_z)
    leave = tl.minimum(tl.minimum(middle_x + span_x, middle_y + span_y), middle_z + span_z)
    return tl.where((enter < leave) & (enter > 0), enter, FAR)


@triton.jit
def _meet_ellipsoid(ox, oy, oz, dx, dy, dz, x, y, z, radius, half_height):
    wide, high = 1 / radius, 1 / half_height
    px, py, pz = (ox - x) * wide, (oy - y) * wide, (oz - z) * high
    qx, qy, qz = dx * wide, dy * wide, dz * high
    a = qx * qx + qy * qy + qz * qz
    b = px * qx + py * qy + pz * qz
    c = px * px + py * py + pz * pz - 1
    discriminant = b * b - a * c
    hit = (-b - tl.sqrt(tl.maximum(discriminant, 0.0))) / a
    return tl.where((discriminant > 0) & (hit > 0), hit, FAR)


@triton.jit
def first_surface(
    ox, oy, oz, dx, dy, dz, blocks, subjects, seen_blocks, seen_subjects,
    BLOCKS: tl.constexpr, SUBJECTS: tl.constexpr, RICH: tl.constexpr,
):  # fmt: skip
    """Return the depth and the number of the surface that each ray meets first.

    ``seen_blocks`` and ``seen_subjects`` have a bit for each that may be in the tile.
    """
    to_ground = -oz / away_from_zero(dz)
    on_ground = (to_ground > 0) & (to_ground < FAR)
    depth = tl.where(on_ground, to_ground, FAR)
    surface = on_ground.to(tl.int32)
    for i in range(BLOCKS):
        if has_bit(seen_blocks, i):
            block = blocks + i * BLOCK_SHAPE
            x, y, half_x = three(block)
            half_y, half_z, cos = three(block + 3)
            sin = tl.load(block + 6)
            hit = _meet_box(ox, oy, oz, dx, dy, dz, x, y, half_x, half_y, half_z, cos, sin)
            surface = tl.where(hit < depth, FIRST_BLOCK + i, surface)
            depth = tl.minimum(hit, depth)
    for i in range(SUBJECTS):
        if has_bit(seen_subjects, i):
            subject = subjects + i * SUBJECT_SHAPE
            x, y, cos = three(subject)
            sin, height, radius = three(subject + 3)
            centre, half, head_centre = three(subject + 6)
            head_radius, head_half = tl.load(subject + 9), tl.load(subject + 10)
            own = FIRST_BLOCK + BLOCKS + 2 * i
            hit = _meet_ellipsoid(
                ox, oy, oz, dx, dy, dz, x, y, centre * height, radius, half * height
            )
            if RICH:
                length = tl.load(subject + 12)
                if length > 0:
                    hit = _meet_box(
                        ox, oy, oz, dx, dy, dz, x, y, length, radius, half * height, cos, sin
                    )
            surface = tl.where(hit < depth, own, surface)
            depth = tl.minimum(hit, depth)
            hit = _meet_ellipsoid(
                ox, oy, oz, dx, dy, dz, x, y, head_centre * height, head_radius * height,
                head_half * height,
            )  # fmt: skip
            surface = tl.where(hit < depth, own + 1, surface)
            depth = tl.minimum(hit, depth)
    return depth, surface
