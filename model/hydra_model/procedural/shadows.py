# SPDX-License-Identifier: Apache-2.0
"""What shadows leave of the ground's light; element-wise over ground points [F, P]."""

from __future__ import annotations

import torch
from torch import Tensor

SHADED = 0.42  # share of the light that a cast shadow takes
_SOFTNESS = 0.12  # metres of a shadow's edge, measured upwards in the block that casts it


def shade_under_subject(x: Tensor, y: Tensor, subject: Tensor, light: Tensor) -> Tensor:
    """Darken ``light`` [F, P] at ground points x, y under a subject [F, 13]."""
    centre_x, centre_y, _, _, _, body, *_ = subject[..., None].unbind(1)
    dx, dy = x - centre_x, y - centre_y
    outside = (dx * dx + dy * dy) / (1.25 * body).square()
    return light * (1 - 0.55 * (1.6 - outside).clamp(0, 1))


def shade_under_block(x: Tensor, y: Tensor, block: Tensor, light: Tensor) -> Tensor:
    """Darken ``light`` [F, P] at ground points x, y around the feet of a block [F, 7]."""
    cx, cy, half_x, half_y, _, cos, sin = block[..., None].unbind(1)
    dx, dy = x - cx, y - cy
    u = ((cos * dx + sin * dy).abs() - half_x).clamp(min=0)
    v = ((cos * dy - sin * dx).abs() - half_y).clamp(min=0)
    near = (1 - 3 * (u + v)).clamp(min=0)
    return light * (1 - 0.4 * near * (half_x > 0))


def cast_by_block(x: Tensor, y: Tensor, block: Tensor, sun: Tensor, light: Tensor) -> Tensor:
    """Darken ``light`` [F, P] where a block [F, 7] stands between the ground and the sun [F, 3].

    The way to the sun passes over the block's outline between two heights; the block casts a
    shadow where the lower one is below its top.
    """
    cx, cy, half_x, half_y, half_z, cos, sin = block[..., None].unbind(1)
    across_x, across_y = sun[:, :1] / sun[:, 2:], sun[:, 1:2] / sun[:, 2:]
    dx, dy = x - cx, y - cy
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    inverse_u = 1 / _away_from_zero(cos * across_x + sin * across_y)
    inverse_v = 1 / _away_from_zero(cos * across_y - sin * across_x)
    span_u, span_v = half_x * inverse_u.abs(), half_y * inverse_v.abs()
    enter = torch.maximum(-u * inverse_u - span_u, -v * inverse_v - span_v).clamp(min=0)
    leave = torch.minimum(-u * inverse_u + span_u, -v * inverse_v + span_v)
    leave = torch.minimum(leave, 2 * half_z)
    cover = ((leave - enter) / _SOFTNESS + 0.5).clamp(0, 1)
    return torch.minimum(light, 1 - SHADED * cover)


def cast_by_subject(x: Tensor, y: Tensor, subject: Tensor, sun: Tensor, light: Tensor) -> Tensor:
    """Darken ``light`` [F, P] where a subject [F, 13] stands between the ground and the sun."""
    columns = subject.unbind(1)
    cx, cy, cos, sin, height, radius, centre, half, head, head_radius, head_half, _, length = (
        columns
    )
    box = torch.stack([cx, cy, length, radius, half * height, cos, sin], 1)
    is_box = length[:, None] > 0
    boxed = cast_by_block(x, y, box, sun, light)
    round_ = _cast_by_ellipsoid(x - cx[:, None], y - cy[:, None], centre * height, radius,
                                half * height, sun, light)  # fmt: skip
    light = torch.where(is_box, boxed, round_)
    return _cast_by_ellipsoid(x - cx[:, None], y - cy[:, None], head * height, head_radius * height,
                              head_half * height, sun, light)  # fmt: skip


def _cast_by_ellipsoid(
    dx: Tensor, dy: Tensor, z: Tensor, radius: Tensor, half: Tensor, sun: Tensor, light: Tensor
) -> Tensor:
    """``dx``, ``dy`` [F, P] are from the centre's foot; the ellipsoid's values [F]."""
    wide, high = 1 / radius[:, None], 1 / half[:, None]
    px, py, pz = dx * wide, dy * wide, -z[:, None] * high
    sx, sy, sz = sun[:, :1] * wide, sun[:, 1:2] * wide, sun[:, 2:] * high
    along = px * sx + py * sy + pz * sz
    # How near the way to the sun comes to the centre, squared, in radii.
    apart = px * px + py * py + pz * pz - along * along / (sx * sx + sy * sy + sz * sz)
    return torch.minimum(light, 1 - SHADED * ((1.25 - apart) / 0.5).clamp(0, 1))


def _away_from_zero(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 1e-5, 1e-5, x)
