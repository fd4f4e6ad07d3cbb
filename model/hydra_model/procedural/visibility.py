# SPDX-License-Identifier: Apache-2.0
"""Which surface a ray meets first: closed-form intersections, one primitive at a time.

Everything here is element-wise over rays [F, P] (F frames of P rays; whatever is the same in
all of a frame is [F, 1]). Primitives are taken one by one and the nearest is kept, so nothing
of size rays x primitives is ever held, and one small compiled kernel serves all primitives of
a kind: a kernel with all of them in it took minutes to compile.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Surfaces: sky, ground, then blocks 2..2+N-1, then a body and a head per subject.
SKY, GROUND, FIRST_BLOCK = 0, 1, 2
FAR = 1e4  # metres; a ray that goes farther sees the sky


class Geometry(NamedTuple):
    """float32: blocks [F, N, 7] (x, y, half sizes, cos, sin of yaw), subjects [F, S, 13].

    A subject is (x, y, cos, sin of its heading, height, body radius) and its form: centre and half
    height of the body, centre, radius and half height of the head, the level below which the body
    is dark (all in shares of the height), and the half length of a box that is its body, in
    metres; 0 where the body is an upright ellipsoid, as heads are.
    """

    blocks: Tensor
    subjects: Tensor


class Rays(NamedTuple):
    """Origins x, y, z [F, 1] and directions x, y, z [F, P] in the world frame.

    Directions have length 1 along the optical axis, so a distance along a ray is a depth.
    """

    ox: Tensor
    oy: Tensor
    oz: Tensor
    dx: Tensor
    dy: Tensor
    dz: Tensor


def make_rays(
    camera_to_world: Tensor,
    height: int,
    width: int,
    focal: float,
    scale: int,
    rows: tuple[int, int],
) -> Rays:
    """Make rays through the pixel centres of an image ``scale`` times finer than height x width.

    ``camera_to_world`` [F, 4, 4] is optical (x right, y down, z forward); ``focal`` in pixels and
    ``rows`` (first, one past the last) are of the coarse image.
    """
    first, last = (row * width * scale**2 for row in rows)
    pixel = torch.arange(first, last, device=camera_to_world.device)
    column = pixel % (width * scale)
    row = torch.div(pixel, width * scale, rounding_mode="floor")
    x = ((column.to(torch.float32) + 0.5) / scale - width / 2) / focal  # [P]
    y = ((row.to(torch.float32) + 0.5) / scale - height / 2) / focal
    m = camera_to_world[:, :3, :, None]  # [F, 3, 4, 1]
    direction = [m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in range(3)]
    return Rays(*(m[:, i, 3] for i in range(3)), *direction)


def away_from_zero(x: Tensor) -> Tensor:
    """Keep a divisor's sign but not its zero."""
    return torch.where(x.abs() < 1e-7, 1e-7, x)


def ground_or_sky(rays: Rays) -> tuple[Tensor, Tensor]:
    """Return depth [F, P] (FAR for the sky) and the surface met, int32, without primitives."""
    to_ground = -rays.oz / away_from_zero(rays.dz)
    on_ground = (to_ground > 0) & (to_ground < FAR)
    return torch.where(on_ground, to_ground, FAR), on_ground.to(torch.int32)  # SKY or GROUND


def take_block(
    rays: Rays, block: Tensor, number: Tensor, depth: Tensor, surface: Tensor
) -> tuple[Tensor, Tensor]:
    """Put a block [F, 7] in front of what is farther; ``number`` [] int32 is its surface."""
    return _keep_nearer(depth, surface, _meet_block(rays, block), number)


def take_subject(
    rays: Rays, subject: Tensor, number: Tensor, depth: Tensor, surface: Tensor
) -> tuple[Tensor, Tensor]:
    """Put a subject [F, 13] before what is farther; its body is ``number``, its head the next."""
    return _take_parts(rays, subject, _meet_body(rays, subject), number, depth, surface)


def take_rich_subject(
    rays: Rays, subject: Tensor, number: Tensor, depth: Tensor, surface: Tensor
) -> tuple[Tensor, Tensor]:
    """``take_subject`` where a body may be a box."""
    x, y, cos, sin, height, radius, _, half, *_, length = subject.unbind(1)
    box = torch.stack([x, y, length, radius, half * height, cos, sin], 1)
    is_box = length[:, None] > 0
    body = torch.where(is_box, _meet_block(rays, box), _meet_body(rays, subject))
    return _take_parts(rays, subject, body, number, depth, surface)


def _meet_body(rays: Rays, subject: Tensor) -> Tensor:
    x, y, _, _, height, radius, centre, half, *_ = subject[..., None].unbind(1)
    return _meet_ellipsoid(rays, x, y, centre * height, radius, half * height)


def _take_parts(
    rays: Rays, subject: Tensor, body: Tensor, number: Tensor, depth: Tensor, surface: Tensor
) -> tuple[Tensor, Tensor]:
    """Put a body that is met at ``body`` [F, P], and then its head, before what is farther."""
    x, y, _, _, height, _, _, _, centre, radius, half, _, _ = subject[..., None].unbind(1)
    head = _meet_ellipsoid(rays, x, y, centre * height, radius * height, half * height)
    depth, surface = _keep_nearer(depth, surface, body, number)
    return _keep_nearer(depth, surface, head, number + 1)


def _keep_nearer(
    depth: Tensor, surface: Tensor, hit: Tensor, number: Tensor
) -> tuple[Tensor, Tensor]:
    nearer = hit < depth
    return torch.where(nearer, hit, depth), torch.where(nearer, number, surface)


def _meet_block(rays: Rays, block: Tensor) -> Tensor:
    """Slab test in the block's own frame; FAR where the ray misses. ``block`` is [F, 7]."""
    x, y, half_x, half_y, half_z, cos, sin = block[..., None].unbind(1)
    inverse_z = 1 / away_from_zero(rays.dz)
    px, py = rays.ox - x, rays.oy - y
    inverse_x = 1 / away_from_zero(cos * rays.dx + sin * rays.dy)
    inverse_y = 1 / away_from_zero(cos * rays.dy - sin * rays.dx)
    middle_x = -(cos * px + sin * py) * inverse_x
    middle_y = -(cos * py - sin * px) * inverse_y
    middle_z = (half_z - rays.oz) * inverse_z
    # A block that is not there has half sizes of -1: it is left before it is entered.
    span_x, span_y = half_x * inverse_x.abs(), half_y * inverse_y.abs()
    span_z = half_z * inverse_z.abs()
    enter = torch.maximum(torch.maximum(middle_x - span_x, middle_y - span_y), middle_z - span_z)
    leave = torch.minimum(torch.minimum(middle_x + span_x, middle_y + span_y), middle_z + span_z)
    return torch.where((enter < leave) & (enter > 0), enter, FAR)


def _meet_ellipsoid(
    rays: Rays, x: Tensor, y: Tensor, z: Tensor, radius: Tensor, half_height: Tensor
) -> Tensor:
    """Meet an upright ellipsoid of revolution; FAR where the ray misses."""
    wide, high = 1 / radius, 1 / half_height
    px, py, pz = (rays.ox - x) * wide, (rays.oy - y) * wide, (rays.oz - z) * high
    dx, dy, dz = rays.dx * wide, rays.dy * wide, rays.dz * high
    a = dx * dx + dy * dy + dz * dz
    b = px * dx + py * dy + pz * dz
    c = px * px + py * py + pz * pz - 1
    discriminant = b * b - a * c
    hit = (-b - discriminant.clamp(min=0).sqrt()) / a
    return torch.where((discriminant > 0) & (hit > 0), hit, FAR)
