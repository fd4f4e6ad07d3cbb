# SPDX-License-Identifier: Apache-2.0
"""Turn scenes, camera poses and times into pictures, subject masks and depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hydra_model.procedural.scenes import Scenes
from hydra_model.procedural.shading import Looks, shade, shade_under_block, shade_under_subject
from hydra_model.procedural.visibility import (
    FIRST_BLOCK,
    Geometry,
    Rays,
    ground_or_sky,
    make_rays,
    take_block,
    take_subject,
)

# What ``Core`` does, for images small enough to be held at once; see ``render_core``.
Core = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]
_HIDDEN = 1e6  # metres away: farther than any ray goes
# Rays that eager mode holds at once: they fit the cache, and PyTorch does not split so few among
# threads, whose waiting for each other costs far more than it gains on a busy machine.
_EAGER_RAYS = 1 << 15


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

    if core is not None:
        shaded = core(camera, geometry, looks, height, width, focal, supersample, (0, height))
        *colors, subject_ids, depth = _pixels(shaded, width, supersample)
        frames = torch.stack(colors, -1)
    else:
        total = batch * steps
        frames = torch.empty(total, height, width, 3, dtype=torch.uint8, device=camera.device)
        subject_ids = frames.new_empty(total, height, width)
        depth = camera.new_empty(total, height, width)
        for at, rows in _pieces(total, height, width * supersample**2):
            shaded = render_core(
                camera[at],
                Geometry(*(value[at] for value in geometry)),
                Looks(*(value[at] for value in looks)),
                height, width, focal, supersample, rows,
            )  # fmt: skip
            *colors, subject_ids[at, slice(*rows)], depth[at, slice(*rows)] = _pixels(
                shaded, width, supersample
            )
            for channel, color in enumerate(colors):
                frames[at, slice(*rows), :, channel] = color
    frames, subject_ids, depth = (
        x.unflatten(0, (batch, steps)) for x in (frames, subject_ids, depth)
    )
    return (frames, subject_ids, depth) if with_depth else (frames, subject_ids)


def ground_points(rays: Rays, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where rays end, x and y [F, P], and a light of 1 everywhere."""
    x = rays.ox + depth * rays.dx
    return x, rays.oy + depth * rays.dy, torch.ones_like(x)


def shade_bytes(*inputs: Any) -> tuple[Tensor, ...]:
    """``shade`` as uint8."""
    return tuple((c.clamp(0, 1) * 255 + 0.5).to(torch.uint8) for c in shade(*inputs))


class Kernels(NamedTuple):
    """The renderer's element-wise pieces: as written, or compiled."""

    make_rays: Callable[..., Any] = make_rays
    ground_or_sky: Callable[..., Any] = ground_or_sky
    take_block: Callable[..., Any] = take_block
    take_subject: Callable[..., Any] = take_subject
    ground_points: Callable[..., Any] = ground_points
    shade_under_block: Callable[..., Any] = shade_under_block
    shade_under_subject: Callable[..., Any] = shade_under_subject
    shade: Callable[..., Any] = shade_bytes


def render_core(
    camera_to_world: Tensor,
    geometry: Geometry,
    looks: Looks,
    height: int,
    width: int,
    focal: float,
    supersample: int,
    rows: tuple[int, int],
    kernels: Kernels = Kernels(),  # noqa: B008 - immutable
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Shade every ray of some rows, primitive by primitive.

    ``camera_to_world`` is [F, 4, 4] float32, ``rows`` the first row and one past the last. Returns
    red, green and blue uint8 [F, P] of the image that is ``supersample`` times finer, and of the
    rays through the pixels' centres the subject ids uint8 and the depth float32, both [F, Q].
    """
    blocks = [block.contiguous() for block in geometry.blocks.unbind(1)]
    subjects = [subject.contiguous() for subject in geometry.subjects.unbind(1)]
    first_subject = FIRST_BLOCK + len(blocks)
    # Tensors, not Python numbers: one kernel has to serve all of them.
    numbers = torch.arange(first_subject + 2 * len(subjects), device=camera_to_world.device)
    number = [n.clone() for n in numbers.to(torch.int32).unbind()]

    def first_surface(rays: Rays) -> tuple[Tensor, Tensor]:
        depth, surface = kernels.ground_or_sky(rays)
        for i, block in enumerate(blocks):
            depth, surface = kernels.take_block(
                rays, block, number[FIRST_BLOCK + i], depth, surface
            )
        for i, subject in enumerate(subjects):
            own = number[first_subject + 2 * i]
            depth, surface = kernels.take_subject(rays, subject, own, depth, surface)
        return depth, surface

    rays = kernels.make_rays(camera_to_world, height, width, focal, supersample, rows)
    depth, surface = first_surface(rays)
    x, y, shadow = kernels.ground_points(rays, depth)
    for subject in subjects:
        shadow = kernels.shade_under_subject(x, y, subject, shadow)
    for block in blocks:
        shadow = kernels.shade_under_block(x, y, block, shadow)
    pixel = 1 / (focal * supersample)
    red, green, blue = kernels.shade(rays, depth, surface, shadow, geometry, looks, pixel)
    if supersample > 1:
        rays = kernels.make_rays(camera_to_world, height, width, focal, 1, rows)
        depth, surface = first_surface(rays)
    ids = (torch.div(surface - first_subject, 2, rounding_mode="floor") + 1).clamp(min=0)
    return red, green, blue, ids.to(torch.uint8), depth


def compile_core(**options: Any) -> Core:
    """Compile the pieces of ``render_core`` for fixed shapes; ``options`` go to the backend.

    The default limits would cut the shading into many kernels that write their intermediates
    to memory, so they are raised.
    """
    limits = {"max_fusion_size": 4096, "realize_opcount_threshold": 200, **options}
    pieces = (
        torch.compile(piece, fullgraph=True, dynamic=False, options=limits) for piece in Kernels()
    )
    return partial(render_core, kernels=Kernels(*pieces))


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


def _pieces(frames: int, height: int, rays_per_row: int) -> Iterator[tuple[slice, tuple[int, int]]]:
    """Cut the work of eager mode into some frames, or some rows of one frame."""
    row_count = min(height, max(1, _EAGER_RAYS // rays_per_row))
    frame_count = max(1, _EAGER_RAYS // (rays_per_row * height))
    for first in range(0, frames, frame_count):
        for top in range(0, height, row_count):
            yield slice(first, first + frame_count), (top, min(height, top + row_count))


def _pixels(shaded: tuple[Tensor, ...], width: int, supersample: int) -> list[Tensor]:
    """Average each pixel's rays, rounded: red, green, blue, ids and depth, each [F, rows, W]."""
    s = supersample
    red_green_blue = []
    for color in shaded[:3]:
        fine = color.unflatten(1, (-1, width * s))
        if s > 1:
            total = torch.zeros_like(fine[:, ::s, ::s], dtype=torch.int16)
            for row in range(s):
                for column in range(s):
                    total += fine[:, row::s, column::s]
            fine = ((total + s * s // 2) // (s * s)).to(torch.uint8)
        red_green_blue.append(fine)
    return [*red_green_blue, *(x.unflatten(1, (-1, width)) for x in shaded[3:])]
