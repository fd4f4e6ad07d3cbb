# SPDX-License-Identifier: Apache-2.0
"""The colour of the surface that a ray meets; element-wise over rays, once per ray.

Patterns are soft waves that fade where they get finer than a pixel, so that nothing flickers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hydra_model.procedural.textures import body_wave, box_normal, soft_wave, wall_light, wall_wave
from hydra_model.procedural.visibility import (
    FAR,
    FIRST_BLOCK,
    GROUND,
    SKY,
    Geometry,
    Rays,
    away_from_zero,
)

Color = tuple[Tensor, Tensor, Tensor]
SKIN = (0.96, 0.83, 0.70)
HAZE_DISTANCE = 80.0  # metres over which the ground fades to 1/e into the horizon
_VECTORS = 64  # values; what loops unrolled over the widest vectors take at a time


class Looks(NamedTuple):
    """float32 looks of each frame's world, see ``Scenes``; the first axis is the frame.

    ``blocks`` [F, N, 8] and ``subjects`` [F, S, 8] are two colours, pattern and cell.
    """

    blocks: Tensor
    subjects: Tensor
    ground_colors: Tensor
    ground_pattern: Tensor
    ground_waves: Tensor
    sky_colors: Tensor
    mountain_colors: Tensor
    mountain_waves: Tensor
    mountain_height: Tensor
    sun_direction: Tensor


def shade(
    rays: Rays, depth: Tensor, surface: Tensor, shadow: Tensor, geometry: Geometry, looks: Looks,
    pixel: float, rich: bool,
) -> Color:  # fmt: skip
    """Return red, green and blue in [0, 1], each [F, P].

    ``shadow`` [F, P] is what shadows leave of the ground's light; ``pixel`` is 1 / focal length;
    ``rich`` worlds have patterns that others do not look for.
    """
    inputs = (rays, depth, surface, shadow, geometry, looks, pixel, rich)
    first_subject = FIRST_BLOCK + geometry.blocks.shape[1]
    color = _select(surface == SKY, _sky_color(*inputs), _ground_color(*inputs))
    is_block = (surface > GROUND) & (surface < first_subject)
    color = _select(is_block, _block_color(*inputs), color)
    return _select(surface >= first_subject, _subject_color(*inputs), color)


def shade_each(
    rays: Rays, depth: Tensor, surface: Tensor, shadow: Tensor, geometry: Geometry, looks: Looks,
    pixel: float, rich: bool,
) -> Color:  # fmt: skip
    """``shade`` to the last bit, where each ray of a frame is shaded as its own surface only."""
    if len(depth) > 1:
        return shade(rays, depth, surface, shadow, geometry, looks, pixel, rich)
    first_subject = FIRST_BLOCK + geometry.blocks.shape[1]
    color = tuple(torch.empty_like(depth) for _ in range(3))
    for chosen, color_of in (
        (surface == SKY, _sky_color),
        (surface == GROUND, _ground_color),
        ((surface > GROUND) & (surface < first_subject), _block_color),
        (surface >= first_subject, _subject_color),
    ):
        index = _whole_vectors(chosen[0].nonzero()[:, 0])
        if len(index) == 0:
            continue
        own = Rays(*rays[:3], *(direction[:, index] for direction in rays[3:]))
        shaded = color_of(own, depth[:, index], surface[:, index], shadow[:, index],
                          geometry, looks, pixel, rich)  # fmt: skip
        for channel, values in zip(color, shaded, strict=True):
            channel[:, index] = values
    return color  # type: ignore[return-value]


def _whole_vectors(index: Tensor) -> Tensor:
    """Repeat the last of some indices up to a whole number of a processor's vectors.

    What is left over is computed by other code, whose sines may differ in the last bit.
    """
    return torch.cat([index, index[-1:].expand(-len(index) % _VECTORS)])


def _points(rays: Rays, depth: Tensor) -> Color:
    """Return where rays end: x, y and z, each [F, P]."""
    x, y, z = (o + depth * d for o, d in zip(rays[:3], rays[3:], strict=True))
    return x, y, z


def _horizon(looks: Looks) -> Color:
    return _spread_color(looks.sky_colors[:, 1])


def _haze(depth: Tensor) -> Tensor:
    return 1 - torch.exp(-depth.clamp(max=FAR) / HAZE_DISTANCE)


def _sky_color(
    rays: Rays, depth: Tensor, surface: Tensor, shadow: Tensor, geometry: Geometry, looks: Looks,
    pixel: float, rich: bool,
) -> Color:  # fmt: skip
    return _sky(rays, looks)


def _ground_color(
    rays: Rays, depth: Tensor, surface: Tensor, shadow: Tensor, geometry: Geometry, looks: Looks,
    pixel: float, rich: bool,
) -> Color:  # fmt: skip
    x, y, _ = _points(rays, depth)
    ground = _ground(rays, depth, x, y, shadow, looks, pixel)
    return _blend(ground, _horizon(looks), _haze(depth))


def _block_color(
    rays: Rays, depth: Tensor, surface: Tensor, shadow: Tensor, geometry: Geometry, looks: Looks,
    pixel: float, rich: bool,
) -> Color:  # fmt: skip
    block = _block(*_points(rays, depth), depth, surface, geometry, looks, pixel, rich)
    return _blend(block, _horizon(looks), _haze(depth) * 0.7)


def _subject_color(
    rays: Rays, depth: Tensor, surface: Tensor, shadow: Tensor, geometry: Geometry, looks: Looks,
    pixel: float, rich: bool,
) -> Color:  # fmt: skip
    part = surface - (FIRST_BLOCK + geometry.blocks.shape[1])
    return _subject(*_points(rays, depth), depth, part, geometry, looks, pixel, rich)


def _spread(value: Tensor) -> Tensor:
    """[F] -> [F, 1]."""
    return value[:, None]


def _spread_color(color: Tensor) -> Color:
    return _spread(color[:, 0]), _spread(color[:, 1]), _spread(color[:, 2])


def _blend(a: Color, b: Color, weight: Tensor) -> Color:
    return tuple(p + (q - p) * weight for p, q in zip(a, b, strict=True))  # type: ignore


def _scale(color: Color, factor: Tensor) -> Color:
    return tuple(channel * factor for channel in color)  # type: ignore


def _select(condition: Tensor, a: Color, b: Color) -> Color:
    return tuple(torch.where(condition, p, q) for p, q in zip(a, b, strict=True))  # type: ignore


def _lookup(table: Tensor, index: Tensor) -> Callable[[int], Tensor]:
    """Return column ``j`` of table [F, N, C] at rows index [F, P] when asked for ``j``."""
    return lambda j: table[:, :, j].gather(1, index)


def _light(nx: Tensor, ny: Tensor, nz: Tensor, looks: Looks) -> Tensor:
    """Lambert's law with a soft skylight that keeps faces in the shade apart."""
    sun = _spread_color(looks.sun_direction)
    lambert = nx * sun[0] + ny * sun[1] + nz * sun[2]
    return 0.62 + 0.38 * lambert.clamp(min=0) + 0.1 * lambert.clamp(max=0) + 0.06 * nz


def _ground(
    rays: Rays, depth: Tensor, x: Tensor, y: Tensor, shadow: Tensor, looks: Looks, pixel: float
) -> Color:
    angle, cell, stripes = _spread_color(looks.ground_pattern)
    along = angle.cos() * x + angle.sin() * y
    across = angle.cos() * y - angle.sin() * x
    # A pixel's footprint grows with distance and with the slant of the view.
    slant = 1 / away_from_zero(rays.dz.abs()).clamp(min=0.02)
    width = (depth * pixel * slant.clamp(min=1)).clamp(min=1e-3)
    wave = soft_wave(along, cell, width)
    wave = wave * torch.where(stripes > 0.5, 1.0, soft_wave(across, cell, width))

    w = [looks.ground_waves[:, i] for i in range(4)]
    phase = [_spread(k[:, 0]) * x + _spread(k[:, 1]) * y + _spread(k[:, 2]) for k in w]
    patch = torch.sin(phase[0] + 1.3 * torch.sin(phase[1]))
    tint = torch.sin(phase[2] + 1.3 * torch.sin(phase[3]))
    patch = (0.5 + 1.2 * patch).clamp(0, 1) * 0.8

    base, other, patch_color = (_spread_color(looks.ground_colors[:, i]) for i in range(3))
    color = _blend(base, other, 0.5 + 0.5 * wave)
    color = _blend(color, _scale(patch_color, 1 - 0.12 * wave), patch)
    return _scale(color, (1 + 0.13 * tint) * shadow)


def _block(
    x: Tensor, y: Tensor, z: Tensor, depth: Tensor, surface: Tensor,
    geometry: Geometry, looks: Looks, pixel: float, rich: bool,
) -> Color:  # fmt: skip
    index = (surface - FIRST_BLOCK).clamp(0, geometry.blocks.shape[1] - 1).to(torch.int64)
    shape = _lookup(geometry.blocks, index)
    look = _lookup(looks.blocks, index)
    cos, sin, half_x, half_y, half_z = shape(5), shape(6), shape(2), shape(3), shape(4)
    px, py = x - shape(0), y - shape(1)
    px, py = cos * px + sin * py, cos * py - sin * px
    # The face is the one whose plane the point lies on.
    on_x, on_y = px.abs() / half_x, py.abs() / half_y
    on_z = (z - half_z).abs() / half_z
    top = (on_z >= on_x) & (on_z >= on_y)
    side_x = (on_x >= on_y) & ~top
    u = torch.where(side_x, py, px)
    v = torch.where(top, py, z)
    normal_x = torch.where(side_x, px.sign(), 0.0)
    normal_y = torch.where(side_x | top, 0.0, py.sign())
    light = _light(
        cos * normal_x - sin * normal_y, sin * normal_x + cos * normal_y, top.to(z.dtype), looks
    )

    pattern, cell = look(6), look(7)
    width = (depth * (1.5 * pixel)).clamp(min=1e-3)
    wave_u, wave_v = soft_wave(u, cell, width), soft_wave(v, cell, width)
    halves = ((v - torch.where(top, 0.0, half_z)) / width).clamp(-1, 1)
    wave = torch.where(pattern < 0.5, wave_v, wave_u)
    wave = torch.where(pattern > 1.5, wave_u * wave_v, wave)
    wave = torch.where(pattern > 2.5, halves, wave)
    if rich:
        wall = wall_wave(pattern, cell, u, torch.where(top, 0.0, v), 2 * half_z, width)
        wave = torch.where((pattern > 3.5) & ~top, wall, wave)
        light = light * wall_light(u, z, cell)
    light_color = (look(0), look(1), look(2))
    return _scale(_blend((look(3), look(4), look(5)), light_color, 0.5 + 0.5 * wave), light)


def _subject(
    x: Tensor, y: Tensor, z: Tensor, depth: Tensor, part: Tensor, geometry: Geometry, looks: Looks,
    pixel: float, rich: bool,
) -> Color:  # fmt: skip
    count = geometry.subjects.shape[1]
    index = torch.div(part, 2, rounding_mode="floor").clamp(0, count - 1).to(torch.int64)
    placed = _lookup(geometry.subjects, index)
    px, py = x - placed(0), y - placed(1)
    cos, sin, height, radius = placed(2), placed(3), placed(4), placed(5)
    level = z / height
    head = part % 2 == 1
    # Normals of an ellipsoid: offsets from the centre over squared radii, made unit length.
    across = torch.where(head, placed(9) * height, radius)
    upright = torch.where(head, placed(10) * height, placed(7) * height)
    rise = (z - torch.where(head, placed(8), placed(6)) * height) / upright
    nx, ny, nz = px / (across * across), py / (across * across), rise / upright
    length = torch.rsqrt(nx * nx + ny * ny + nz * nz + 1e-12)
    nx, ny, nz = nx * length, ny * length, nz * length

    look = _lookup(looks.subjects, index)
    shirt = (look(0), look(1), look(2))
    if rich:
        ahead, aside, box_length = cos * px + sin * py, cos * py - sin * px, placed(12)
        is_box = (box_length > 0) & ~head
        face_x, face_y, face_z = box_normal(ahead, aside, rise, box_length, radius)
        nx = torch.where(is_box, cos * face_x - sin * face_y, nx)
        ny = torch.where(is_box, sin * face_x + cos * face_y, ny)
        nz = torch.where(is_box, face_z, nz)
        width = (depth * (1.5 * pixel)).clamp(min=1e-3)
        wave = body_wave(look(6), look(7), ahead, aside, z, width)
        second = (look(3), look(4), look(5))
        shirt = _select(head, shirt, _blend(second, shirt, 0.5 + 0.5 * wave))
    forward = cos * nx + sin * ny
    # Dark legs, a pale face that shows where the subject walks, and hair of the own colour.
    light = _light(nx, ny, nz, looks) * torch.where((level < placed(11)) & ~head, 0.55, 1.0)
    skin = tuple(torch.full_like(x, channel) for channel in SKIN)
    face = head & (forward > 0.35)
    return _scale(_select(face, skin, shirt), light)  # type: ignore[arg-type]


def _sky(rays: Rays, looks: Looks) -> Color:
    level = torch.sqrt(rays.dx * rays.dx + rays.dy * rays.dy).clamp(min=1e-6)
    slope = rays.dz / level
    azimuth = torch.atan2(rays.dy, rays.dx)
    sun = _spread_color(looks.sun_direction)
    length = torch.rsqrt(level * level + rays.dz * rays.dz)
    towards_sun = (rays.dx * sun[0] + rays.dy * sun[1] + rays.dz * sun[2]) * length

    zenith, horizon = (_spread_color(looks.sky_colors[:, i]) for i in range(2))
    color = _blend(zenith, horizon, torch.exp(-3.0 * slope.clamp(min=0)))
    glow = towards_sun.clamp(min=0)
    disc = ((towards_sun - 0.9965) * 600).clamp(0, 1)
    white = tuple(torch.full_like(slope, channel) for channel in (1.0, 0.97, 0.86))
    color = _blend(color, white, torch.maximum(0.35 * glow**6, disc))  # type: ignore[arg-type]

    # Two ridges whose height and tint are functions of the azimuth: they tell where one looks.
    waves, height = looks.mountain_waves, _spread(looks.mountain_height)
    p = [_spread(waves[:, i]) for i in range(4)]
    far = 0.6 + 0.25 * torch.sin(3 * azimuth + p[0]) - 0.35 * torch.sin(4.5 * azimuth + p[1]).abs()
    near = 0.3 + 0.3 * torch.sin(2 * azimuth + p[2]) - 0.25 * torch.sin(6.5 * azimuth + p[3]).abs()
    tint = 0.5 + 0.5 * torch.sin(azimuth + p[3])
    near_color, far_color = (_spread_color(looks.mountain_colors[:, i]) for i in range(2))
    far_color = _blend(far_color, near_color, tint)
    far_color = _blend(far_color, horizon, 0.45 + 0.1 * tint)
    near_color = _blend(near_color, horizon, 0.2 + 0.15 * tint)
    color = _select(slope < far * height, far_color, color)
    return _select(slope < near * height, near_color, color)
