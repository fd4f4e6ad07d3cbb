# SPDX-License-Identifier: Apache-2.0
"""``shading`` and ``visibility`` once more, as Triton functions of a tile of rays.

A tile's values stay in registers. What is the same in all of a frame is read by its pointer,
as a number; the surface's own looks are gathered by its index. Formulas are those of the
eager modules, which say what they mean; a change there has to be made here too, and the test
that compares the two renderers tells.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Columns of the tables, and the constants of ``visibility`` and ``shading`` as Triton wants them.
BLOCK_SHAPE = tl.constexpr(7)
BLOCK_LOOK = tl.constexpr(8)
SUBJECT_SHAPE = tl.constexpr(6)
SUBJECT_LOOK = tl.constexpr(3)
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
BODY_CENTRE = tl.constexpr(0.41)
BODY_HALF = tl.constexpr(0.41)
HEAD_CENTRE = tl.constexpr(0.875)
HEAD_RADIUS = tl.constexpr(0.125)
HAZE_DISTANCE = tl.constexpr(80.0)
PI = tl.constexpr(3.141592653589793)
TURN = tl.constexpr(0.15915494309189535)  # turns in a radian


@triton.jit
def _unit(x):
    """Clamp to [0, 1]."""
    return tl.minimum(tl.maximum(x, 0.0), 1.0)


@triton.jit
def _sign(x):
    return tl.where(x > 0, 1.0, tl.where(x < 0, -1.0, 0.0))


@triton.jit
def _away_from_zero(x):
    return tl.where(tl.abs(x) < 1e-7, 1e-7, x)


@triton.jit
def _sine(turns):
    """Return the sine of an angle in turns, to 1e-6 up to some turns.

    CUDA's own can reduce any argument, with so much code that it is half of a kernel's; ours are
    small where they are seen. Taylor's series for a quarter turn, mirrored.
    """
    t = turns - tl.floor(turns + 0.5)
    t = tl.where(tl.abs(t) > 0.25, _sign(t) * 0.5 - t, t)
    x = t * (2 * PI)
    s = x * x
    p = s * (-1 / 39916800) + 1 / 362880
    p = p * s - 1 / 5040
    p = p * s + 1 / 120
    p = p * s - 1 / 6
    return (p * s + 1) * x


@triton.jit
def _blend(r, g, b, other_r, other_g, other_b, weight):
    return r + (other_r - r) * weight, g + (other_g - g) * weight, b + (other_b - b) * weight


@triton.jit
def _color(table):
    """Load three numbers."""
    return tl.load(table), tl.load(table + 1), tl.load(table + 2)


@triton.jit
def _atan2(y, x):
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


@triton.jit
def _meet_block(ox, oy, oz, dx, dy, dz, block):
    x, y, half_x = _color(block)
    half_y, half_z, cos = _color(block + 3)
    sin = tl.load(block + 6)
    px, py = ox - x, oy - y
    inverse_x = 1 / _away_from_zero(cos * dx + sin * dy)
    inverse_y = 1 / _away_from_zero(cos * dy - sin * dx)
    inverse_z = 1 / _away_from_zero(dz)
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
    ox, oy, oz, dx, dy, dz, blocks, subjects, BLOCKS: tl.constexpr, SUBJECTS: tl.constexpr
):  # fmt: skip
    """Return the depth and the number of the surface that each ray meets first."""
    to_ground = -oz / _away_from_zero(dz)
    on_ground = (to_ground > 0) & (to_ground < FAR)
    depth = tl.where(on_ground, to_ground, FAR)
    surface = on_ground.to(tl.int32)
    for i in range(BLOCKS):
        hit = _meet_block(ox, oy, oz, dx, dy, dz, blocks + i * BLOCK_SHAPE)
        surface = tl.where(hit < depth, FIRST_BLOCK + i, surface)
        depth = tl.minimum(hit, depth)
    for i in range(SUBJECTS):
        subject = subjects + i * SUBJECT_SHAPE
        x, y = tl.load(subject), tl.load(subject + 1)
        size, radius = tl.load(subject + 4), tl.load(subject + 5)
        own = FIRST_BLOCK + BLOCKS + 2 * i
        hit = _meet_ellipsoid(
            ox, oy, oz, dx, dy, dz, x, y, BODY_CENTRE * size, radius, BODY_HALF * size
        )
        surface = tl.where(hit < depth, own, surface)
        depth = tl.minimum(hit, depth)
        head = HEAD_RADIUS * size
        hit = _meet_ellipsoid(ox, oy, oz, dx, dy, dz, x, y, HEAD_CENTRE * size, head, head)
        surface = tl.where(hit < depth, own + 1, surface)
        depth = tl.minimum(hit, depth)
    return depth, surface


@triton.jit
def _soft_wave(x, cell, width):
    steepness = tl.minimum(tl.maximum(cell / width, 1.0), 8.0)
    finer = 1.5 * width / cell
    finer = finer * finer
    wave = _sine(x * (0.5 / cell)) * steepness
    return tl.minimum(tl.maximum(wave, -1.0), 1.0) / (1 + finer * finer)


@triton.jit
def _light(nx, ny, nz, scene):
    sun_x, sun_y, sun_z = _color(scene + SUN_DIRECTION)
    lambert = nx * sun_x + ny * sun_y + nz * sun_z
    return 0.62 + 0.38 * tl.maximum(lambert, 0.0) + 0.1 * tl.minimum(lambert, 0.0) + 0.06 * nz


@triton.jit
def sky_color(dx, dy, dz, scene):
    """Return the colour of the sky and of the mountains before it."""
    level = tl.maximum(tl.sqrt(dx * dx + dy * dy), 1e-6)
    slope = dz / level
    azimuth = _atan2(dy, dx)
    sun_x, sun_y, sun_z = _color(scene + SUN_DIRECTION)
    towards_sun = (dx * sun_x + dy * sun_y + dz * sun_z) / tl.sqrt(level * level + dz * dz)

    zenith_r, zenith_g, zenith_b = _color(scene + SKY_COLORS)
    horizon_r, horizon_g, horizon_b = _color(scene + SKY_COLORS + 3)
    low = tl.exp(-3.0 * tl.maximum(slope, 0.0))
    r, g, b = _blend(zenith_r, zenith_g, zenith_b, horizon_r, horizon_g, horizon_b, low)
    glow = tl.maximum(towards_sun, 0.0)
    glow = glow * glow * glow
    white = tl.maximum(0.35 * (glow * glow), _unit((towards_sun - 0.9965) * 600))
    r, g, b = _blend(r, g, b, 1.0, 0.97, 0.86, white)

    waves = scene + MOUNTAIN_WAVES
    p0, p1, p2 = _color(waves)
    p3 = tl.load(waves + 3)
    height = tl.load(scene + MOUNTAIN_HEIGHT)
    far = 0.6 + 0.25 * _sine((3 * azimuth + p0) * TURN)
    far -= 0.35 * tl.abs(_sine((4.5 * azimuth + p1) * TURN))
    near = 0.3 + 0.3 * _sine((2 * azimuth + p2) * TURN)
    near -= 0.25 * tl.abs(_sine((6.5 * azimuth + p3) * TURN))
    tint = 0.5 + 0.5 * _sine((azimuth + p3) * TURN)
    near_r, near_g, near_b = _color(scene + MOUNTAIN_COLORS)
    far_r, far_g, far_b = _color(scene + MOUNTAIN_COLORS + 3)
    far_r, far_g, far_b = _blend(far_r, far_g, far_b, near_r, near_g, near_b, tint)
    far_r, far_g, far_b = _blend(
        far_r, far_g, far_b, horizon_r, horizon_g, horizon_b, 0.45 + 0.1 * tint
    )
    near_r, near_g, near_b = _blend(
        near_r, near_g, near_b, horizon_r, horizon_g, horizon_b, 0.2 + 0.15 * tint
    )
    behind, before = slope < far * height, slope < near * height
    r = tl.where(before, near_r, tl.where(behind, far_r, r))
    g = tl.where(before, near_g, tl.where(behind, far_g, g))
    b = tl.where(before, near_b, tl.where(behind, far_b, b))
    return r, g, b


@triton.jit
def _contact_shadows(
    x, y, blocks, subjects, BLOCKS: tl.constexpr, SUBJECTS: tl.constexpr
):  # fmt: skip
    light = tl.zeros_like(x) + 1.0
    for i in range(SUBJECTS):
        subject = subjects + i * SUBJECT_SHAPE
        dx, dy = x - tl.load(subject), y - tl.load(subject + 1)
        reach = 1.25 * tl.load(subject + 5)
        light *= 1 - 0.55 * _unit(1.6 - (dx * dx + dy * dy) / (reach * reach))
    for i in range(BLOCKS):
        block = blocks + i * BLOCK_SHAPE
        centre_x, centre_y, half_x = _color(block)
        half_y, _, cos = _color(block + 3)
        sin = tl.load(block + 6)
        dx, dy = x - centre_x, y - centre_y
        u = tl.maximum(tl.abs(cos * dx + sin * dy) - half_x, 0.0)
        v = tl.maximum(tl.abs(cos * dy - sin * dx) - half_y, 0.0)
        near = tl.maximum(1 - 3 * (u + v), 0.0)
        light *= 1 - 0.4 * near * tl.where(half_x > 0, 1.0, 0.0)
    return light


@triton.jit
def ground_color(
    x, y, dz, depth, blocks, subjects, scene, pixel,
    BLOCKS: tl.constexpr, SUBJECTS: tl.constexpr,
):  # fmt: skip
    """Return the colour of the ground in its shadows and the haze."""
    angle, cell, stripes = _color(scene + GROUND_PATTERN)
    cos, sin = _sine(angle * TURN + 0.25), _sine(angle * TURN)
    along, across = cos * x + sin * y, cos * y - sin * x
    slant = 1 / tl.maximum(tl.abs(dz), 0.02)
    width = tl.maximum(depth * pixel * tl.maximum(slant, 1.0), 1e-3)
    wave = _soft_wave(along, cell, width)
    wave *= tl.where(stripes > 0.5, 1.0, _soft_wave(across, cell, width))

    waves = scene + GROUND_WAVES
    k, m, p = _color(waves)
    first = k * x + m * y + p
    k, m, p = _color(waves + 3)
    second = k * x + m * y + p
    patch = _sine((first + 1.3 * _sine(second * TURN)) * TURN)
    k, m, p = _color(waves + 6)
    first = k * x + m * y + p
    k, m, p = _color(waves + 9)
    second = k * x + m * y + p
    tint = _sine((first + 1.3 * _sine(second * TURN)) * TURN)
    patch = _unit(0.5 + 1.2 * patch) * 0.8

    r, g, b = _color(scene + GROUND_COLORS)
    other_r, other_g, other_b = _color(scene + GROUND_COLORS + 3)
    r, g, b = _blend(r, g, b, other_r, other_g, other_b, 0.5 + 0.5 * wave)
    other_r, other_g, other_b = _color(scene + GROUND_COLORS + 6)
    dim = 1 - 0.12 * wave
    r, g, b = _blend(r, g, b, other_r * dim, other_g * dim, other_b * dim, patch)
    light = (1 + 0.13 * tint) * _contact_shadows(x, y, blocks, subjects, BLOCKS, SUBJECTS)
    haze = 1 - tl.exp(-depth / HAZE_DISTANCE)
    other_r, other_g, other_b = _color(scene + SKY_COLORS + 3)
    return _blend(r * light, g * light, b * light, other_r, other_g, other_b, haze)


@triton.jit
def block_color(
    x, y, z, depth, surface, blocks, block_looks, scene, pixel, BLOCKS: tl.constexpr
):  # fmt: skip
    """Return the colour of the blocks that are met, in the haze."""
    index = tl.minimum(tl.maximum(surface - FIRST_BLOCK, 0), BLOCKS - 1)
    shape, look = blocks + index * BLOCK_SHAPE, block_looks + index * BLOCK_LOOK
    centre_x, centre_y, half_x = _color(shape)
    half_y, half_z, cos = _color(shape + 3)
    sin = tl.load(shape + 6)
    dx, dy = x - centre_x, y - centre_y
    px, py = cos * dx + sin * dy, cos * dy - sin * dx
    on_x, on_y = tl.abs(px) / half_x, tl.abs(py) / half_y
    on_z = tl.abs(z - half_z) / half_z
    top = (on_z >= on_x) & (on_z >= on_y)
    side_x = (on_x >= on_y) & (~top)
    u = tl.where(side_x, py, px)
    v = tl.where(top, py, z)
    normal_x = tl.where(side_x, _sign(px), 0.0)
    normal_y = tl.where(side_x | top, 0.0, _sign(py))
    normal_z = tl.where(top, 1.0, 0.0)
    light = _light(
        cos * normal_x - sin * normal_y, sin * normal_x + cos * normal_y, normal_z, scene
    )

    pattern, cell = tl.load(look + 6), tl.load(look + 7)
    width = tl.maximum(depth * (1.5 * pixel), 1e-3)
    wave_u, wave_v = _soft_wave(u, cell, width), _soft_wave(v, cell, width)
    halves = (v - tl.where(top, 0.0, half_z)) / width
    halves = tl.minimum(tl.maximum(halves, -1.0), 1.0)
    wave = tl.where(pattern < 0.5, wave_v, wave_u)
    wave = tl.where(pattern > 1.5, wave_u * wave_v, wave)
    wave = tl.where(pattern > 2.5, halves, wave)
    light_r, light_g, light_b = _color(look)
    r, g, b = _color(look + 3)
    r, g, b = _blend(r, g, b, light_r, light_g, light_b, 0.5 + 0.5 * wave)
    haze = (1 - tl.exp(-depth / HAZE_DISTANCE)) * 0.7
    horizon_r, horizon_g, horizon_b = _color(scene + SKY_COLORS + 3)
    return _blend(r * light, g * light, b * light, horizon_r, horizon_g, horizon_b, haze)


@triton.jit
def subject_color(
    x, y, z, part, subjects, subject_looks, scene, SUBJECTS: tl.constexpr
):  # fmt: skip
    """Return the colour of the subjects that are met; an odd ``part`` is a head."""
    part = tl.minimum(tl.maximum(part, 0), 2 * SUBJECTS - 1)
    head = part % 2 == 1
    placed = subjects + (part // 2) * SUBJECT_SHAPE
    centre_x, centre_y, cos = _color(placed)
    sin, height, radius = _color(placed + 3)
    px, py, level = x - centre_x, y - centre_y, z / height
    across = tl.where(head, HEAD_RADIUS * height, radius)
    upright = tl.where(head, HEAD_RADIUS * height, BODY_HALF * height)
    rise = (z - tl.where(head, HEAD_CENTRE, BODY_CENTRE) * height) / upright
    nx, ny, nz = px / (across * across), py / (across * across), rise / upright
    length = 1 / tl.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    nx, ny, nz = nx * length, ny * length, nz * length

    r, g, b = _color(subject_looks + (part // 2) * SUBJECT_LOOK)
    light = _light(nx, ny, nz, scene) * tl.where((level < 0.33) & (~head), 0.55, 1.0)
    face = head & (cos * nx + sin * ny > 0.35)
    r = tl.where(face, 0.96, r)
    g = tl.where(face, 0.83, g)
    b = tl.where(face, 0.70, b)
    return r * light, g * light, b * light
