# SPDX-License-Identifier: Apache-2.0
"""Ways to render the same images: eager in pieces, eager at once, compiled, or one fused kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hydra_model.procedural.culling import Needed, all_needed, bounds
from hydra_model.procedural.shading import Looks, shade, shade_each
from hydra_model.procedural.shadows import (
    cast_by_block,
    cast_by_subject,
    shade_under_block,
    shade_under_subject,
)
from hydra_model.procedural.visibility import (
    FIRST_BLOCK,
    Geometry,
    Rays,
    ground_or_sky,
    make_rays,
    take_block,
    take_rich_subject,
    take_subject,
)

# Renders whole images: takes optical camera-to-world float32 [F, 4, 4], Geometry, Looks, height,
# width, focal length in pixels, supersample and whether worlds are of the style "rich"; returns
# frames uint8 [F, H, W, 3], subject ids uint8 [F, H, W] and depth float32 [F, H, W].
Core = Callable[
    [Tensor, Geometry, Looks, int, int, float, int, bool], tuple[Tensor, Tensor, Tensor]
]
# Rays that eager mode holds at once: they fit the cache, and PyTorch does not split so few among
# threads, whose waiting for each other costs far more than it gains on a busy machine.
_EAGER_RAYS = 1 << 15


def ground_points(rays: Rays, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where rays end, x and y [F, P], and a light of 1 everywhere."""
    x = rays.ox + depth * rays.dx
    return x, rays.oy + depth * rays.dy, torch.ones_like(x)


def _bytes(color: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple((c.clamp(0, 1) * 255 + 0.5).to(torch.uint8) for c in color)


def shade_bytes(*inputs: Any) -> tuple[Tensor, ...]:
    """``shade`` as uint8."""
    return _bytes(shade(*inputs))


def shade_each_bytes(*inputs: Any) -> tuple[Tensor, ...]:
    """``shade_each`` as uint8."""
    return _bytes(shade_each(*inputs))


class Kernels(NamedTuple):
    """The renderer's element-wise pieces: as written, or compiled."""

    make_rays: Callable[..., Any] = make_rays
    ground_or_sky: Callable[..., Any] = ground_or_sky
    take_block: Callable[..., Any] = take_block
    take_subject: Callable[..., Any] = take_subject
    take_rich_subject: Callable[..., Any] = take_rich_subject
    ground_points: Callable[..., Any] = ground_points
    shade_under_block: Callable[..., Any] = shade_under_block
    shade_under_subject: Callable[..., Any] = shade_under_subject
    cast_by_block: Callable[..., Any] = cast_by_block
    cast_by_subject: Callable[..., Any] = cast_by_subject
    shade: Callable[..., Any] = shade_bytes


def shade_rays(
    camera_to_world: Tensor,
    geometry: Geometry,
    looks: Looks,
    height: int,
    width: int,
    focal: float,
    supersample: int,
    rich: bool,
    rows: tuple[int, int],
    kernels: Kernels = Kernels(),  # noqa: B008 - immutable
    needed: Needed | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Shade every ray of some rows, primitive by primitive.

    ``camera_to_world`` is [F, 4, 4] float32, ``rows`` the first row and one past the last,
    ``needed`` the primitives that show, by default all. Returns red, green and blue uint8 [F, P] of
    the image that is ``supersample`` times finer, and of the rays through the pixels' centres the
    subject ids uint8 and the depth float32, both [F, Q].
    """
    needed = needed or all_needed(geometry)
    blocks = [block.contiguous() for block in geometry.blocks.unbind(1)]
    subjects = [subject.contiguous() for subject in geometry.subjects.unbind(1)]
    first_subject = FIRST_BLOCK + len(blocks)
    # Tensors, not Python numbers: one kernel has to serve all of them.
    numbers = torch.arange(first_subject + 2 * len(subjects), device=camera_to_world.device)
    number = [n.clone() for n in numbers.to(torch.int32).unbind()]

    def first_surface(rays: Rays) -> tuple[Tensor, Tensor]:
        depth, surface = kernels.ground_or_sky(rays)
        for i in needed.blocks:
            depth, surface = kernels.take_block(
                rays, blocks[i], number[FIRST_BLOCK + i], depth, surface
            )
        for i in needed.subjects:
            own = number[first_subject + 2 * i]
            take = kernels.take_rich_subject if rich else kernels.take_subject
            depth, surface = take(rays, subjects[i], own, depth, surface)
        return depth, surface

    rays = kernels.make_rays(camera_to_world, height, width, focal, supersample, rows)
    depth, surface = first_surface(rays)
    x, y, shadow = kernels.ground_points(rays, depth)
    dark_subjects = [subjects[i] for i in needed.darkening_subjects]
    dark_blocks = [blocks[i] for i in needed.darkening_blocks]
    if rich:
        for subject in dark_subjects:
            shadow = kernels.cast_by_subject(x, y, subject, looks.sun_direction, shadow)
        for block in dark_blocks:
            shadow = kernels.cast_by_block(x, y, block, looks.sun_direction, shadow)
    for subject in dark_subjects:
        shadow = kernels.shade_under_subject(x, y, subject, shadow)
    for block in dark_blocks:
        shadow = kernels.shade_under_block(x, y, block, shadow)
    pixel = 1 / (focal * supersample)
    red, green, blue = kernels.shade(rays, depth, surface, shadow, geometry, looks, pixel, rich)
    if supersample > 1:
        rays = kernels.make_rays(camera_to_world, height, width, focal, 1, rows)
        depth, surface = first_surface(rays)
    ids = (torch.div(surface - first_subject, 2, rounding_mode="floor") + 1).clamp(min=0)
    return red, green, blue, ids.to(torch.uint8), depth


def render_core(
    camera: Tensor,
    geometry: Geometry,
    looks: Looks,
    height: int,
    width: int,
    focal: float,
    supersample: int,
    rich: bool,
    kernels: Kernels = Kernels(),  # noqa: B008 - immutable
) -> tuple[Tensor, Tensor, Tensor]:
    """Render as ``Core`` says, all at once: about a gigabyte for a thousand small images."""
    rows = (0, height)
    shaded = shade_rays(
        camera, geometry, looks, height, width, focal, supersample, rich, rows, kernels
    )
    *colors, subject_ids, depth = _pixels(shaded, width, supersample)
    return torch.stack(colors, -1), subject_ids, depth


def render_pieces(
    camera: Tensor,
    geometry: Geometry,
    looks: Looks,
    height: int,
    width: int,
    focal: float,
    supersample: int,
    rich: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render as ``Core`` says, eagerly in pieces that fit a CPU's cache.

    Each piece leaves out what does not show in it.
    """
    total = len(camera)
    prisms = bounds(camera, geometry, looks.sun_direction)
    kernels = Kernels(shade=shade_each_bytes)
    frames = torch.empty(total, height, width, 3, dtype=torch.uint8, device=camera.device)
    subject_ids = frames.new_empty(total, height, width)
    depth = camera.new_empty(total, height, width)
    for at, rows in _pieces(total, height, width * supersample**2):
        top, bottom = ((row - height / 2) / focal for row in rows)
        shaded = shade_rays(
            camera[at],
            Geometry(*(value[at] for value in geometry)),
            Looks(*(value[at] for value in looks)),
            height, width, focal, supersample, rich, rows,
            kernels, prisms.needed(at, width / 2 / focal, top, bottom),
        )  # fmt: skip
        *colors, subject_ids[at, slice(*rows)], depth[at, slice(*rows)] = _pixels(
            shaded, width, supersample
        )
        for channel, color in enumerate(colors):
            frames[at, slice(*rows), :, channel] = color
    return frames, subject_ids, depth


@dataclass(frozen=True)
class CompiledCore:
    """``render_core`` with compiled pieces: every new shape of its arguments is compiled for."""

    kernels: Kernels

    def __call__(self, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        return partial(render_core, kernels=self.kernels)(*arguments)


def compile_core(**options: Any) -> Core:
    """Compile the pieces of ``shade_rays`` for fixed shapes; ``options`` go to the backend.

    The default limits would cut the shading into many kernels that write their intermediates
    to memory, so they are raised.
    """
    limits = {"max_fusion_size": 4096, "realize_opcount_threshold": 200, **options}
    pieces = (
        torch.compile(piece, fullgraph=True, dynamic=False, options=limits) for piece in Kernels()
    )
    return CompiledCore(Kernels(*pieces))


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
