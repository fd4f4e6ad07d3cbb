# SPDX-License-Identifier: Apache-2.0
"""Turn scenes, camera poses and times into pictures, subject masks and depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hydra_model.procedural.scenes import Scenes
from hydra_model.procedural.shading import Looks, shade
from hydra_model.procedural.visibility import FIRST_BLOCK, Geometry, first_surface, make_rays

# What ``Core`` does, for images small enough to be held at once; see ``render_core``.
Core = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]
_HIDDEN = 1e6  # metres away: farther than any ray goes
_EAGER_RAYS = 1 << 17  # rays that eager mode holds at once, so that they stay in the cache


def render(
    scenes: Scenes,
    camera_to_world: Tensor,
    times: Tensor,
    height: int,
    width: int,
    fov_x: float,
    *,
    supersample: int = 2,
    with_depth: bool = False,
    core: Core | None = None,
) -> tuple[Tensor, ...]:
    """Render worlds at camera poses and times.

    ``camera_to_world`` [B, T, 4, 4] is the optical frame (x right, y down, z forward) in metres,
    ``times`` [B, T] or [T] in seconds, ``fov_x`` in radians. Each pixel is the mean of
    ``supersample`` squared rays. ``core`` is None to run eagerly in small pieces, or what
    ``compile_core`` returned.

    Returns frames uint8 [B, T, H, W, 3] RGB; subject ids uint8 [B, T, H, W], 0 for none or 1..S
    for the subject that the ray through the pixel's centre meets first; and, if asked for, the
    depth along the optical axis at that ray, float32 [B, T, H, W] metres (1e4 in the sky).
    """
    batch = len(scenes)
    if camera_to_world.ndim != 4 or camera_to_world.shape[0] != batch:
        raise ValueError(
            f"camera_to_world is {list(camera_to_world.shape)}; accepted is [{batch}, T, 4, 4]"
        )
    steps = camera_to_world.shape[1]
    if times.shape not in ((steps,), (batch, steps)):
        raise ValueError(
            f"times are {list(times.shape)}; accepted is [{steps}] or [{batch}, {steps}]"
        )
    if not 0 < fov_x < math.pi:
        raise ValueError(f"fov_x is {fov_x}; accepted is an angle in radians between 0 and pi")
    geometry = pack_geometry(scenes, times)
    looks = pack_looks(scenes, steps)
    camera = camera_to_world.to(torch.float32).flatten(0, 1)
    focal = width / 2 / math.tan(fov_x / 2)

    def shoot(which: Core, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        planes = which(*inputs, height, width, focal, supersample)
        return _picture(planes, height, width, supersample)

    if core is not None:
        frames, subject_ids, depth = shoot(core, camera, geometry, looks)
    else:
        total = batch * steps
        frames = torch.empty(total, height, width, 3, dtype=torch.uint8, device=camera.device)
        subject_ids = frames.new_empty(total, height, width)
        depth = camera.new_empty(total, height, width)
        piece = max(1, _EAGER_RAYS // (height * width * supersample**2))
        for first in range(0, total, piece):
            at = slice(first, first + piece)
            inputs = (
                camera[at],
                Geometry(*(g[at] for g in geometry)),
                Looks(*(v[at] for v in looks)),
            )
            frames[at], subject_ids[at], depth[at] = shoot(render_core, *inputs)
    frames, subject_ids, depth = (
        x.unflatten(0, (batch, steps)) for x in (frames, subject_ids, depth)
    )
    return (frames, subject_ids, depth) if with_depth else (frames, subject_ids)


def render_core(
    camera_to_world: Tensor,
    geometry: Geometry,
    looks: Looks,
    height: int,
    width: int,
    focal: float,
    supersample: int,
    at_once: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Shade every ray: element-wise operations only, so that it compiles into few kernels.

    ``camera_to_world`` [F, 4, 4] float32. Returns red, green and blue uint8 [F, P] of the image
    that is ``supersample`` times finer, and of the rays through the pixels' centres the subject
    ids uint8 and the depth float32 [F, H * W].
    """
    rays = make_rays(camera_to_world, height, width, focal, supersample)
    depth, surface = first_surface(rays, geometry, at_once)
    colors = shade(rays, depth, surface, geometry, looks, 1 / (focal * supersample), at_once)
    red, green, blue = ((c.clamp(0, 1) * 255 + 0.5).to(torch.uint8) for c in colors)
    if supersample > 1:
        rays = make_rays(camera_to_world, height, width, focal)
        depth, surface = first_surface(rays, geometry, at_once)
    first_subject = FIRST_BLOCK + geometry.blocks.shape[1]
    ids = (torch.div(surface - first_subject, 2, rounding_mode="floor") + 1).clamp(min=0)
    return red, green, blue, ids.to(torch.uint8), depth


def compile_core(**options: Any) -> Core:
    """Compile ``render_core`` for fixed shapes; ``options`` go to torch.compile's backend.

    The default limits would cut the running minimum over primitives into many kernels that
    write their intermediates to memory, so they are raised.
    """
    limits = {"max_fusion_size": 4096, "realize_opcount_threshold": 200}
    at_once = partial(render_core, at_once=True)
    return torch.compile(at_once, fullgraph=True, dynamic=False, options={**limits, **options})


def pack_geometry(scenes: Scenes, times: Tensor) -> Geometry:
    """Place the subjects at times [B, T] or [T] and round all shapes to float32, per frame."""
    position, velocity = scenes.motion.state(times)  # [B, T, S, 2]
    active = scenes.motion.active[:, None, :, None]
    heading = velocity / velocity.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    size = scenes.subject_size[:, None].expand_as(position)
    subjects = torch.cat([torch.where(active, position, _HIDDEN), heading, size], -1)
    yaw = scenes.block_yaw[..., None]
    blocks = torch.cat([scenes.block_centre, scenes.block_half, yaw.cos(), yaw.sin()], -1)
    blocks = blocks.repeat_interleave(position.shape[1], 0)
    return Geometry(blocks.to(torch.float32), subjects.flatten(0, 1).to(torch.float32))


def pack_looks(scenes: Scenes, steps: int) -> Looks:
    """Round all colours and patterns to float32 and repeat them for each of ``steps`` frames."""
    pattern = torch.stack([scenes.block_pattern.to(scenes.block_cell), scenes.block_cell], -1)
    blocks = torch.cat([scenes.block_colors.flatten(2), pattern], -1)
    same = [getattr(scenes, name) for name in Looks._fields[2:]]
    values = (blocks, scenes.subject_color, *same)
    return Looks(*(value.to(torch.float32).repeat_interleave(steps, 0) for value in values))


def _picture(
    shaded: tuple[Tensor, ...], height: int, width: int, supersample: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Average each pixel's rays: frames uint8 [F, H, W, 3], ids and depth [F, H, W]."""
    s = supersample
    planes = []
    for color in shaded[:3]:
        fine = color.reshape(-1, height * s, width * s)
        if s == 1:
            planes.append(fine)
            continue
        total = torch.zeros_like(fine[:, ::s, ::s], dtype=torch.int16)
        for row in range(s):
            for column in range(s):
                total += fine[:, row::s, column::s]
        planes.append(((total + s * s // 2) // (s * s)).to(torch.uint8))
    ids, depth = (x.reshape(-1, height, width) for x in shaded[3:])
    return torch.stack(planes, -1), ids, depth
