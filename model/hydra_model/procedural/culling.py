# SPDX-License-Identifier: Apache-2.0
"""Which primitives a piece of an image needs: the others would not change one of its pixels.

A primitive lies in a prism, and so does all the ground that it darkens. Where all eight corners
of a prism are outside of one of the planes that bound the view, no ray comes near it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hydra_model.procedural.visibility import Geometry

_MARGIN = 0.05  # metres; far more than rays are rounded by
_AROUND_BLOCK = 0.34  # metres around a block's feet that it darkens
_SOFT_HEIGHT = 0.06  # metres above and below a block that soften its shadow's edge
_AROUND_SUBJECT = 1.5  # radii of the ground that a subject darkens, and of what casts its shadow


class Needed(NamedTuple):
    """Numbers of the blocks and subjects that rays may meet, and of those that darken ground."""

    blocks: list[int]
    subjects: list[int]
    darkening_blocks: list[int]
    darkening_subjects: list[int]


def all_needed(geometry: Geometry) -> Needed:
    """Return the numbers of all primitives."""
    blocks, subjects = (list(range(values.shape[1])) for values in geometry)
    return Needed(blocks, subjects, blocks, subjects)


class Prisms(NamedTuple):
    """Corners [F, N, 8] in camera coordinates (x right, y down, z forward) of N prisms.

    ``there`` [F, N] is false where there is nothing inside.
    """

    x: Tensor
    y: Tensor
    z: Tensor
    there: Tensor

    def seen(self, frames: slice, right: float, top: float, bottom: float) -> list[int]:
        """Return the numbers of the prisms that may be in view in one of the frames.

        The view spans -right to right and top to bottom, at distance 1.
        """
        x, y, z = self.x[frames], self.y[frames], self.z[frames]
        planes = (right * z - x, right * z + x, bottom * z - y, y - top * z, z)
        outside = torch.stack([(plane < -_MARGIN).all(-1) for plane in planes]).any(0)
        return (self.there[frames] & ~outside).any(0).nonzero()[:, 0].tolist()


class Bounds(NamedTuple):
    """Prisms around what rays may meet of blocks and subjects, and around what those darken."""

    blocks: Prisms
    subjects: Prisms
    dark_blocks: Prisms
    dark_subjects: Prisms

    def needed(self, frames: slice, right: float, top: float, bottom: float) -> Needed:
        """Return what some frames need where the view spans this much, see ``Prisms.seen``."""
        return Needed(*(prisms.seen(frames, right, top, bottom) for prisms in self))


def bounds(camera_to_world: Tensor, geometry: Geometry, sun: Tensor) -> Bounds:
    """Return the bounds for cameras [F, 4, 4] (optical) and directions to the sun [F, 3]."""
    world_to_camera = torch.linalg.inv(camera_to_world.double())
    across = (sun[:, :2] / sun[:, 2:]).double()[:, None]  # metres for each metre up; [F, 1, 2]
    nowhere = torch.zeros_like(across)
    softness = _SOFT_HEIGHT * across.norm(dim=-1)

    x, y, half_x, half_y, half_z, cos, sin = geometry.blocks.double().unbind(-1)
    height, zero = 2 * half_z, torch.zeros_like(half_z)
    there = half_x > 0
    foot = (x, y, half_x, half_y, cos, sin)
    around = (x, y, *(h + _AROUND_BLOCK + softness for h in (half_x, half_y)), cos, sin)
    soft = (zero - _SOFT_HEIGHT, height + _SOFT_HEIGHT)
    blocks = _prisms(world_to_camera, foot, (zero, height), nowhere, there)
    dark_blocks = _prisms(world_to_camera, around, soft, across, there, flat=True)

    x, y, cos, sin, tall, body, centre, half, head, head_wide, head_half, _, length = (
        geometry.subjects.double().unbind(-1)
    )
    there = x < 1e5
    wide = torch.maximum(torch.hypot(length, body), head_wide * tall)
    low = torch.minimum(centre - half, head - head_half).clamp(max=0) * tall
    high = torch.maximum(torch.maximum(centre + half, 2 * half), head + head_half) * tall
    foot = (x, y, wide, wide, cos, sin)
    darkness = _AROUND_SUBJECT * wide + softness
    around = (x, y, darkness, darkness, cos, sin)
    soft = (low - 0.2 * tall - _SOFT_HEIGHT, 1.2 * high + _SOFT_HEIGHT)
    subjects = _prisms(world_to_camera, foot, (low, high), nowhere, there)
    dark_subjects = _prisms(world_to_camera, around, soft, across, there, flat=True)
    return Bounds(blocks, subjects, dark_blocks, dark_subjects)


def _prisms(
    world_to_camera: Tensor,
    foot: tuple[Tensor, ...],
    heights: tuple[Tensor, Tensor],
    across: Tensor,
    there: Tensor,
    *,
    flat: bool = False,
) -> Prisms:
    """Return prisms over rectangles (x, y, half sizes, cos and sin of their yaw), each [F, N].

    Each leans away from the sun by ``across`` [F, 1, 2] a metre; ``flat`` presses it on the ground.
    """
    x, y, half_x, half_y, cos, sin = foot
    corners = []
    for z in heights:
        for side_x in (-half_x, half_x):
            for side_y in (-half_y, half_y):
                corners.append(
                    torch.stack(
                        [
                            x + cos * side_x - sin * side_y - across[..., 0] * z,
                            y + sin * side_x + cos * side_y - across[..., 1] * z,
                            torch.zeros_like(z) if flat else z,
                            torch.ones_like(z),
                        ],
                        -1,
                    )
                )
    points = torch.stack(corners, 2)  # [F, N, 8, 4]
    view = torch.einsum("fij,fnkj->fnki", world_to_camera, points)
    return Prisms(view[..., 0], view[..., 1], view[..., 2], there)
