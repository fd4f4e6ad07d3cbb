# SPDX-License-Identifier: Apache-2.0
"""``shading`` as Triton functions of a tile of rays.

A tile's values stay in registers. What is the same in all of a frame is read by its pointer,
as a number; the surface's own looks are gathered by its index. Formulas are those of the
eager modules, which say what they mean; a change there has to be made here too, and the test
that compares the two renderers tells.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hydra_model.procedural.fused.common import (
    BLOCK_LOOK,
    BLOCK_SHAPE,
    FIRST_BLOCK,
    GROUND_COLORS,
    GROUND_PATTERN,
    GROUND_WAVES,
    HAZE_DISTANCE,
    MOUNTAIN_COLORS,
    MOUNTAIN_HEIGHT,
    MOUNTAIN_WAVES,
    SKY_COLORS,
    SUBJECT_LOOK,
    SUBJECT_SHAPE,
    SUN_DIRECTION,
    TURN,
    atan2,
    blend,
    sign,
    sine,
    three,
    unit,
)
from hydra_model.procedural.fused.textures import (
    body_wave,
    box_normal,
    soft_wave,
    wall_light,
    wall_wave,
)


@triton.jit
def _light(nx, ny, nz, scene):
    sun_x, sun_y, sun_z = three(scene + SUN_DIRECTION)
    lambert = nx * sun_x + ny * sun_y + nz * sun_z
    return 0.62 + 0.38 * tl.maximum(lambert, 0.0) + 0.1 * tl.minimum(lambert, 0.0) + 0.06 * nz


@triton.jit
def sky_color(dx, dy, dz, scene):
    """Return the colour of the sky and of the mountains before it."""
    level = tl.maximum(tl.sqrt(dx * dx + dy * dy), 1e-6)
    slope = dz / level
    azimuth = atan2(dy, dx)
    sun_x, sun_y, sun_z = three(scene + SUN_DIRECTION)
    towards_sun = (dx * sun_x + dy * sun_y + dz * sun_z) / tl.sqrt(level * level + dz * dz)

    zenith_r, zenith_g, zenith_b = three(scene + SKY_COLORS)
    horizon_r, horizon_g, horizon_b = three(scene + SKY_COLORS + 3)
    low = tl.exp(-3.0 * tl.maximum(slope, 0.0))
    r, g, b = blend(zenith_r, zenith_g, zenith_b, horizon_r, horizon_g, horizon_b, low)
    glow = tl.maximum(towards_sun, 0.0)
    glow = glow * glow * glow
    white = tl.maximum(0.35 * (glow * glow), unit((towards_sun - 0.9965) * 600))
    r, g, b = blend(r, g, b, 1.0, 0.97, 0.86, white)

    waves = scene + MOUNTAIN_WAVES
    p0, p1, p2 = three(waves)
    p3 = tl.load(waves + 3)
    height = tl.load(scene + MOUNTAIN_HEIGHT)
    far = 0.6 + 0.25 * sine((3 * azimuth + p0) * TURN)
    far -= 0.35 * tl.abs(sine((4.5 * azimuth + p1) * TURN))
    near = 0.3 + 0.3 * sine((2 * azimuth + p2) * TURN)
    near -= 0.25 * tl.abs(sine((6.5 * azimuth + p3) * TURN))
    tint = 0.5 + 0.5 * sine((azimuth + p3) * TURN)
    near_r, near_g, near_b = three(scene + MOUNTAIN_COLORS)
    far_r, far_g, far_b = three(scene + MOUNTAIN_COLORS + 3)
    far_r, far_g, far_b = blend(far_r, far_g, far_b, near_r, near_g, near_b, tint)
    far_r, far_g, far_b = blend(
        far_r, far_g, far_b, horizon_r, horizon_g, horizon_b, 0.45 + 0.1 * tint
    )
    near_r, near_g, near_b = blend(
        near_r, near_g, near_b, horizon_r, horizon_g, horizon_b, 0.2 + 0.15 * tint
    )
    behind, before = slope < far * height, slope < near * height
    r = tl.where(before, near_r, tl.where(behind, far_r, r))
    g = tl.where(before, near_g, tl.where(behind, far_g, g))
    b = tl.where(before, near_b, tl.where(behind, far_b, b))
    return r, g, b


@triton.jit
def ground_color(x, y, dz, depth, light, scene, pixel):
    """Return the colour of the ground in ``light``, what shadows leave of it, and the haze."""
    angle, cell, stripes = three(scene + GROUND_PATTERN)
    cos, sin = sine(angle * TURN + 0.25), sine(angle * TURN)
    along, across = cos * x + sin * y, cos * y - sin * x
    slant = 1 / tl.maximum(tl.abs(dz), 0.02)
    width = tl.maximum(depth * pixel * tl.maximum(slant, 1.0), 1e-3)
    wave = soft_wave(along, cell, width)
    wave *= tl.where(stripes > 0.5, 1.0, soft_wave(across, cell, width))

    waves = scene + GROUND_WAVES
    k, m, p = three(waves)
    first = k * x + m * y + p
    k, m, p = three(waves + 3)
    second = k * x + m * y + p
    patch = sine((first + 1.3 * sine(second * TURN)) * TURN)
    k, m, p = three(waves + 6)
    first = k * x + m * y + p
    k, m, p = three(waves + 9)
    second = k * x + m * y + p
    tint = sine((first + 1.3 * sine(second * TURN)) * TURN)
    patch = unit(0.5 + 1.2 * patch) * 0.8

    r, g, b = three(scene + GROUND_COLORS)
    other_r, other_g, other_b = three(scene + GROUND_COLORS + 3)
    r, g, b = blend(r, g, b, other_r, other_g, other_b, 0.5 + 0.5 * wave)
    other_r, other_g, other_b = three(scene + GROUND_COLORS + 6)
    dim = 1 - 0.12 * wave
    r, g, b = blend(r, g, b, other_r * dim, other_g * dim, other_b * dim, patch)
    light *= 1 + 0.13 * tint
    haze = 1 - tl.exp(-depth / HAZE_DISTANCE)
    other_r, other_g, other_b = three(scene + SKY_COLORS + 3)
    return blend(r * light, g * light, b * light, other_r, other_g, other_b, haze)


@triton.jit
def block_color(
    x, y, z, depth, surface, blocks, block_looks, scene, pixel,
    BLOCKS: tl.constexpr, RICH: tl.constexpr,
):  # fmt: skip
    """Return the colour of the blocks that are met, in the haze."""
    index = tl.minimum(tl.maximum(surface - FIRST_BLOCK, 0), BLOCKS - 1)
    shape, look = blocks + index * BLOCK_SHAPE, block_looks + index * BLOCK_LOOK
    centre_x, centre_y, half_x = three(shape)
    half_y, half_z, cos = three(shape + 3)
    sin = tl.load(shape + 6)
    dx, dy = x - centre_x, y - centre_y
    px, py = cos * dx + sin * dy, cos * dy - sin * dx
    on_x, on_y = tl.abs(px) / half_x, tl.abs(py) / half_y
    on_z = tl.abs(z - half_z) / half_z
    top = (on_z >= on_x) & (on_z >= on_y)
    side_x = (on_x >= on_y) & (~top)
    u = tl.where(side_x, py, px)
    v = tl.where(top, py, z)
    normal_x = tl.where(side_x, sign(px), 0.0)
    normal_y = tl.where(side_x | top, 0.0, sign(py))
    normal_z = tl.where(top, 1.0, 0.0)
    light = _light(
        cos * normal_x - sin * normal_y, sin * normal_x + cos * normal_y, normal_z, scene
    )

    pattern, cell = tl.load(look + 6), tl.load(look + 7)
    width = tl.maximum(depth * (1.5 * pixel), 1e-3)
    wave_u, wave_v = soft_wave(u, cell, width), soft_wave(v, cell, width)
    halves = (v - tl.where(top, 0.0, half_z)) / width
    halves = tl.minimum(tl.maximum(halves, -1.0), 1.0)
    wave = tl.where(pattern < 0.5, wave_v, wave_u)
    wave = tl.where(pattern > 1.5, wave_u * wave_v, wave)
    wave = tl.where(pattern > 2.5, halves, wave)
    if RICH:
        wall = wall_wave(pattern, cell, u, tl.where(top, 0.0, v), 2 * half_z, width)
        wave = tl.where((pattern > 3.5) & (~top), wall, wave)
        light *= wall_light(u, z, cell)
    light_r, light_g, light_b = three(look)
    r, g, b = three(look + 3)
    r, g, b = blend(r, g, b, light_r, light_g, light_b, 0.5 + 0.5 * wave)
    haze = (1 - tl.exp(-depth / HAZE_DISTANCE)) * 0.7
    horizon_r, horizon_g, horizon_b = three(scene + SKY_COLORS + 3)
    return blend(r * light, g * light, b * light, horizon_r, horizon_g, horizon_b, haze)


@triton.jit
def subject_color(
    x, y, z, depth, part, subjects, subject_looks, scene, pixel,
    SUBJECTS: tl.constexpr, RICH: tl.constexpr,
):  # fmt: skip
    """Return the colour of the subjects that are met; an odd ``part`` is a head."""
    part = tl.minimum(tl.maximum(part, 0), 2 * SUBJECTS - 1)
    head = part % 2 == 1
    placed = subjects + (part // 2) * SUBJECT_SHAPE
    look = subject_looks + (part // 2) * SUBJECT_LOOK
    centre_x, centre_y, cos = three(placed)
    sin, height, radius = three(placed + 3)
    body_centre, body_half, head_centre = three(placed + 6)
    head_radius, head_half, dark = three(placed + 9)
    px, py, level = x - centre_x, y - centre_y, z / height
    across = tl.where(head, head_radius * height, radius)
    upright = tl.where(head, head_half, body_half) * height
    rise = (z - tl.where(head, head_centre, body_centre) * height) / upright
    nx, ny, nz = px / (across * across), py / (across * across), rise / upright
    length = 1 / tl.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    nx, ny, nz = nx * length, ny * length, nz * length

    r, g, b = three(look)
    if RICH:
        ahead, aside = cos * px + sin * py, cos * py - sin * px
        box_length = tl.load(placed + 12)
        box = (box_length > 0) & (~head)
        face_x, face_y, face_z = box_normal(ahead, aside, rise, box_length, radius)
        nx = tl.where(box, cos * face_x - sin * face_y, nx)
        ny = tl.where(box, sin * face_x + cos * face_y, ny)
        nz = tl.where(box, face_z, nz)
        width = tl.maximum(depth * (1.5 * pixel), 1e-3)
        wave = body_wave(tl.load(look + 6), tl.load(look + 7), ahead, aside, z, width)
        second_r, second_g, second_b = three(look + 3)
        own = tl.where(head, 1.0, 0.5 + 0.5 * wave)
        r, g, b = blend(second_r, second_g, second_b, r, g, b, own)
    light = _light(nx, ny, nz, scene) * tl.where((level < dark) & (~head), 0.55, 1.0)
    face = head & (cos * nx + sin * ny > 0.35)
    r = tl.where(face, 0.96, r)
    g = tl.where(face, 0.83, g)
    b = tl.where(face, 0.70, b)
    return r * light, g * light, b * light
