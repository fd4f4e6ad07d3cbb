# SPDX-License-Identifier: Apache-2.0
"""Which primitives a tile of pixels can see at all, and whose shadows can fall into it.

A tile is a few degrees wide and most primitives are elsewhere. Each lane takes one primitive;
the answer is a bit for each, the same number for all of the tile's rays. Tests are
conservative: what is left out cannot be met.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hydra_model.procedural.fused.common import BLOCK_SHAPE, SUBJECT_SHAPE, SUN_DIRECTION

_SLACK = tl.constexpr(0.01)  # metres, for rounding
_REACH = tl.constexpr(0.4)  # metres that contact shadows and soft edges reach beyond a block


@triton.jit
def _bits(chosen, lane):
    return tl.sum(tl.where(chosen, (lane * 0 + 1) << lane, 0), axis=0)


@triton.jit
def load_blocks(blocks, lane, COUNT: tl.constexpr):
    """Return x, y, half sizes, cos and sin of blocks [lanes]; half sizes of -1 beyond the last."""
    place, there = blocks + lane * BLOCK_SHAPE, lane < COUNT
    return (
        tl.load(place, mask=there, other=0.0), tl.load(place + 1, mask=there, other=0.0),
        tl.load(place + 2, mask=there, other=-1.0), tl.load(place + 3, mask=there, other=-1.0),
        tl.load(place + 4, mask=there, other=-1.0), tl.load(place + 5, mask=there, other=1.0),
        tl.load(place + 6, mask=there, other=0.0),
    )  # fmt: skip


@triton.jit
def load_subjects(subjects, lane, COUNT: tl.constexpr):
    """Return blocks, as ``load_blocks`` does, that the subjects fit in."""
    place, there = subjects + lane * SUBJECT_SHAPE, lane < COUNT
    x, y = tl.load(place, mask=there, other=0.0), tl.load(place + 1, mask=there, other=0.0)
    height = tl.load(place + 4, mask=there, other=-1.0)
    radius = tl.load(place + 5, mask=there, other=-1.0)
    body = tl.load(place + 6, mask=there, other=1.0) + tl.load(place + 7, mask=there, other=0.0)
    head = tl.load(place + 8, mask=there, other=0.0) + tl.load(place + 10, mask=there, other=0.0)
    head_radius = tl.load(place + 9, mask=there, other=0.0) * height
    reach = tl.maximum(radius + tl.load(place + 12, mask=there, other=0.0), head_radius)
    top = tl.maximum(body, head) * height
    return x, y, reach, reach, top * 0.5, x * 0 + 1, x * 0


@triton.jit
def in_view(
    x, y, half_x, half_y, half_z, cos, sin, lane, camera, left, right, top, bottom
):  # fmt: skip
    """Return the bits of the blocks that reach into a pyramid of view.

    ``camera`` is camera-to-world; the pyramid's edges are on the plane at depth 1.
    """
    px, py = x - tl.load(camera + 3), y - tl.load(camera + 7)
    pz = half_z - tl.load(camera + 11)
    # The block's centre and its half axes in the camera's frame, one of its axes at a time.
    r0, r1, r2 = tl.load(camera), tl.load(camera + 4), tl.load(camera + 8)
    x0, x1 = r0 * px + r1 * py + r2 * pz, half_x * (cos * r0 + sin * r1)
    x2, x3 = half_y * (cos * r1 - sin * r0), half_z * r2
    r0, r1, r2 = tl.load(camera + 1), tl.load(camera + 5), tl.load(camera + 9)
    y0, y1 = r0 * px + r1 * py + r2 * pz, half_x * (cos * r0 + sin * r1)
    y2, y3 = half_y * (cos * r1 - sin * r0), half_z * r2
    r0, r1, r2 = tl.load(camera + 2), tl.load(camera + 6), tl.load(camera + 10)
    z0, z1 = r0 * px + r1 * py + r2 * pz, half_x * (cos * r0 + sin * r1)
    z2, z3 = half_y * (cos * r1 - sin * r0), half_z * r2
    # How far the block reaches to the inner side of each of the pyramid's planes.
    on_left = x0 - left * z0 + tl.abs(x1 - left * z1) + tl.abs(x2 - left * z2)
    on_left += tl.abs(x3 - left * z3)
    on_right = right * z0 - x0 + tl.abs(right * z1 - x1) + tl.abs(right * z2 - x2)
    on_right += tl.abs(right * z3 - x3)
    on_top = y0 - top * z0 + tl.abs(y1 - top * z1) + tl.abs(y2 - top * z2)
    on_top += tl.abs(y3 - top * z3)
    on_bottom = bottom * z0 - y0 + tl.abs(bottom * z1 - y1) + tl.abs(bottom * z2 - y2)
    on_bottom += tl.abs(bottom * z3 - y3)
    ahead = z0 + tl.abs(z1) + tl.abs(z2) + tl.abs(z3)
    least = tl.minimum(tl.minimum(on_left, on_right), tl.minimum(on_top, on_bottom))
    return _bits((tl.minimum(least, ahead) > -_SLACK) & (half_x > 0), lane)


@triton.jit
def footprint(camera, left, right, top, bottom):
    """Return the centre and radius of a circle on the ground that holds all that is seen of it.

    The radius is without bound where the pyramid of view reaches the horizon.
    """
    lane = tl.arange(0, 4)
    x, y = tl.where(lane % 2 == 0, left, right), tl.where(lane < 2, top, bottom)
    dx = tl.load(camera) * x + tl.load(camera + 1) * y + tl.load(camera + 2)
    dy = tl.load(camera + 4) * x + tl.load(camera + 5) * y + tl.load(camera + 6)
    dz = tl.load(camera + 8) * x + tl.load(camera + 9) * y + tl.load(camera + 10)
    height = tl.load(camera + 11)
    depth = height / tl.maximum(-dz, 1e-3)
    # The ground that a pyramid sees is what its four edges meet, and what lies between.
    bounded = (tl.max(dz, axis=0) < -1e-3) & (height > 0)
    x, y = tl.load(camera + 3) + depth * dx, tl.load(camera + 7) + depth * dy
    centre_x, centre_y = tl.sum(x, axis=0) * 0.25, tl.sum(y, axis=0) * 0.25
    x, y = x - centre_x, y - centre_y
    radius = tl.sqrt(tl.max(x * x + y * y, axis=0))
    return centre_x, centre_y, tl.where(bounded, radius, 1e9)


@triton.jit
def in_shadow(
    x, y, half_x, half_y, half_z, cos, sin, lane, scene, spread, centre_x, centre_y, radius,
    RICH: tl.constexpr,
):  # fmt: skip
    """Return the bits of the blocks that may darken the ground in a circle.

    Shadows of things ``spread`` times as wide, along the sun's direction where they are cast.
    """
    dx, dy = centre_x - x, centre_y - y
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    wide_x, wide_y = half_x * spread, half_y * spread
    if RICH:
        sun = scene + SUN_DIRECTION
        height = tl.load(sun + 2)
        # A shadow ends this far from the block, in the block's frame; it is half of it to there.
        over_x, over_y = tl.load(sun) / height * half_z, tl.load(sun + 1) / height * half_z
        along, aside = cos * over_x + sin * over_y, cos * over_y - sin * over_x
        u, v = u + along * spread, v + aside * spread
        wide_x, wide_y = wide_x + tl.abs(along) * spread, wide_y + tl.abs(aside) * spread
    reached = (tl.abs(u) < wide_x + radius + _REACH) & (tl.abs(v) < wide_y + radius + _REACH)
    return _bits(reached & (half_x > 0), lane)
