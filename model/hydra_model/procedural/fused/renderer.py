# SPDX-License-Identifier: Apache-2.0
"""The whole renderer in one Triton kernel: a pixel's rays never leave the registers.

A program takes a small tile of one frame's pixels. For each of a pixel's rays in turn it finds
the first surface and shades it, adds the rays up and writes the pixel once: 8 bytes, where
element-wise kernels move hundreds. Tiles are small, so most see few primitives and few kinds of
surface: primitives that a tile cannot see are left out (``culling``), and so is the shading
of surfaces that it does not meet.
"""

from __future__ import annotations

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor

from hydra_model.procedural.fused.common import FIRST_BLOCK, SCENE
from hydra_model.procedural.fused.culling import (
    footprint,
    in_shadow,
    in_view,
    load_blocks,
    load_subjects,
)
from hydra_model.procedural.fused.shading import (
    block_color,
    ground_color,
    sky_color,
    subject_color,
)
from hydra_model.procedural.fused.shadows import light_on_ground
from hydra_model.procedural.fused.visibility import first_surface
from hydra_model.procedural.shading import Looks
from hydra_model.procedural.visibility import Geometry

TILE = (16, 8)  # pixels across and down, powers of two
WARPS = 4  # one pixel a thread: there are many values for each


@triton.jit
def _ray(camera, x, y):
    """Return the world direction [tile] of rays through x, y on the plane at depth 1."""
    dx = tl.load(camera) * x + tl.load(camera + 1) * y + tl.load(camera + 2)
    dy = tl.load(camera + 4) * x + tl.load(camera + 5) * y + tl.load(camera + 6)
    dz = tl.load(camera + 8) * x + tl.load(camera + 9) * y + tl.load(camera + 10)
    return dx, dy, dz


@triton.jit
def _byte(color):
    return (tl.minimum(tl.maximum(color, 0.0), 1.0) * 255 + 0.5).to(tl.int32)


@triton.jit
def _any(condition):
    return tl.max(condition.to(tl.int32), axis=0) > 0


@triton.jit
def _render(
    cameras, blocks, block_looks, subjects, subject_looks, scenes, frames, ids, depths,
    height, width, tiles_across, tiles, focal,
    BLOCKS: tl.constexpr, SUBJECTS: tl.constexpr, BLOCK_ROW: tl.constexpr,
    BLOCK_LOOK_ROW: tl.constexpr, SUBJECT_ROW: tl.constexpr, SUBJECT_LOOK_ROW: tl.constexpr,
    SUPERSAMPLE: tl.constexpr, TILE_X: tl.constexpr, TILE_Y: tl.constexpr,
    BLOCK_LANES: tl.constexpr, SUBJECT_LANES: tl.constexpr, RICH: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    tile = program % tiles
    frame = (program // tiles).to(tl.int64)
    camera, scene = cameras + frame * 16, scenes + frame * SCENE
    blocks += frame * BLOCK_ROW
    block_looks += frame * BLOCK_LOOK_ROW
    subjects += frame * SUBJECT_ROW
    subject_looks += frame * SUBJECT_LOOK_ROW
    first_subject = FIRST_BLOCK + BLOCKS

    lane = tl.arange(0, TILE_X * TILE_Y)
    column = (tile % tiles_across) * TILE_X + lane % TILE_X
    row = (tile // tiles_across) * TILE_Y + lane // TILE_X
    inside = (column < width) & (row < height)
    left, up = width * 0.5, height * 0.5
    pixel = 1 / (focal * SUPERSAMPLE)
    ox, oy, oz = tl.load(camera + 3), tl.load(camera + 7), tl.load(camera + 11)

    # The tile's borders on the plane at depth 1, and what can be seen and darkened between them.
    west = ((tile % tiles_across) * TILE_X - left) / focal
    east = west + TILE_X / focal
    north = ((tile // tiles_across) * TILE_Y - up) / focal
    south = north + TILE_Y / focal
    middle_x, middle_y, radius = footprint(camera, west, east, north, south)
    many = tl.arange(0, BLOCK_LANES)
    bx, by, half_x, half_y, half_z, cos, sin = load_blocks(blocks, many, BLOCKS)
    seen_blocks = in_view(
        bx, by, half_x, half_y, half_z, cos, sin, many, camera, west, east, north, south
    )
    dark_blocks = in_shadow(
        bx, by, half_x, half_y, half_z, cos, sin, many, scene, 1.0, middle_x, middle_y, radius, RICH
    )
    few = tl.arange(0, SUBJECT_LANES)
    bx, by, half_x, half_y, half_z, cos, sin = load_subjects(subjects, few, SUBJECTS)
    seen_subjects = in_view(
        bx, by, half_x, half_y, half_z, cos, sin, few, camera, west, east, north, south
    )
    dark_subjects = in_shadow(
        bx, by, half_x, half_y, half_z, cos, sin, few, scene, 1.6, middle_x, middle_y, radius, RICH
    )

    red, green, blue = tl.zeros_like(lane), tl.zeros_like(lane), tl.zeros_like(lane)
    depth = tl.zeros([TILE_X * TILE_Y], tl.float32)
    surface = tl.zeros_like(lane)
    for sample in range(SUPERSAMPLE * SUPERSAMPLE):
        fine_column = column * SUPERSAMPLE + sample % SUPERSAMPLE
        fine_row = row * SUPERSAMPLE + sample // SUPERSAMPLE
        dx, dy, dz = _ray(
            camera,
            ((fine_column.to(tl.float32) + 0.5) / SUPERSAMPLE - left) / focal,
            ((fine_row.to(tl.float32) + 0.5) / SUPERSAMPLE - up) / focal,
        )
        depth, surface = first_surface(
            ox, oy, oz, dx, dy, dz, blocks, subjects, seen_blocks, seen_subjects,
            BLOCKS, SUBJECTS, RICH,
        )  # fmt: skip
        x, y, z = ox + depth * dx, oy + depth * dy, oz + depth * dz
        r, g, b = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
        met = surface == 0
        if _any(met):
            own_r, own_g, own_b = sky_color(dx, dy, dz, scene)
            r, g, b = tl.where(met, own_r, r), tl.where(met, own_g, g), tl.where(met, own_b, b)
        met = surface == 1
        if _any(met):
            light = light_on_ground(
                x, y, blocks, subjects, scene, dark_blocks, dark_subjects, BLOCKS, SUBJECTS, RICH
            )
            own_r, own_g, own_b = ground_color(x, y, dz, depth, light, scene, pixel)
            r, g, b = tl.where(met, own_r, r), tl.where(met, own_g, g), tl.where(met, own_b, b)
        met = (surface > 1) & (surface < first_subject)
        if _any(met):
            own_r, own_g, own_b = block_color(
                x, y, z, depth, surface, blocks, block_looks, scene, pixel, BLOCKS, RICH
            )
            r, g, b = tl.where(met, own_r, r), tl.where(met, own_g, g), tl.where(met, own_b, b)
        met = surface >= first_subject
        if _any(met):
            own_r, own_g, own_b = subject_color(
                x, y, z, depth, surface - first_subject, subjects, subject_looks, scene, pixel,
                SUBJECTS, RICH,
            )  # fmt: skip
            r, g, b = tl.where(met, own_r, r), tl.where(met, own_g, g), tl.where(met, own_b, b)
        red += _byte(r)
        green += _byte(g)
        blue += _byte(b)

    if SUPERSAMPLE > 1:
        dx, dy, dz = _ray(
            camera,
            ((column.to(tl.float32) + 0.5) - left) / focal,
            ((row.to(tl.float32) + 0.5) - up) / focal,
        )
        depth, surface = first_surface(
            ox, oy, oz, dx, dy, dz, blocks, subjects, seen_blocks, seen_subjects,
            BLOCKS, SUBJECTS, RICH,
        )  # fmt: skip
    subject = tl.where(surface < first_subject, 0, (surface - first_subject) // 2 + 1)
    # Frames of a large batch hold more than 2^31 bytes together.
    place = frame * height * width + row * width + column
    rays: tl.constexpr = SUPERSAMPLE * SUPERSAMPLE
    tl.store(frames + 3 * place, ((red + rays // 2) // rays).to(tl.uint8), mask=inside)
    tl.store(frames + 3 * place + 1, ((green + rays // 2) // rays).to(tl.uint8), mask=inside)
    tl.store(frames + 3 * place + 2, ((blue + rays // 2) // rays).to(tl.uint8), mask=inside)
    tl.store(ids + place, subject.to(tl.uint8), mask=inside)
    tl.store(depths + place, depth, mask=inside)


def render_fused(
    camera_to_world: Tensor,
    geometry: Geometry,
    looks: Looks,
    height: int,
    width: int,
    focal: float,
    supersample: int,
    rich: bool,
    *,
    tile: tuple[int, int] = TILE,
    warps: int = WARPS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render as ``cores.Core`` says, on a GPU (or in Triton's interpreter)."""
    count, device = len(camera_to_world), camera_to_world.device
    scene = torch.cat([value.flatten(1) if value.ndim > 1 else value[:, None]
                       for value in looks[2:]], 1)  # fmt: skip
    assert scene.shape[1] == SCENE.value and camera_to_world.shape[1:] == (4, 4)
    tables = [
        value.contiguous()
        for value in (
            camera_to_world, geometry.blocks, looks.blocks, geometry.subjects, looks.subjects, scene
        )
    ]  # fmt: skip
    frames = torch.empty(count, height, width, 3, dtype=torch.uint8, device=device)
    ids = frames.new_empty(count, height, width)
    depths = torch.empty(count, height, width, dtype=torch.float32, device=device)
    across, down = triton.cdiv(width, tile[0]), triton.cdiv(height, tile[1])
    on_device = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    with on_device:
        _render[(count * across * down,)](
            *tables, frames, ids, depths, height, width, across, across * down, focal,
            num_warps=warps, num_stages=1, **constants(geometry, looks, supersample, rich, tile),
        )  # fmt: skip
    return frames, ids, depths


def constants(
    geometry: Geometry, looks: Looks, supersample: int, rich: bool, tile: tuple[int, int] = TILE
) -> dict[str, int]:
    """Return what the kernel is compiled for."""
    blocks, subjects = geometry.blocks.shape[1], geometry.subjects.shape[1]
    if max(blocks, subjects) > 31:
        raise ValueError(f"{blocks} blocks and {subjects} subjects; accepted are up to 31 of each")
    return {
        "BLOCKS": blocks,
        "SUBJECTS": subjects,
        "BLOCK_ROW": geometry.blocks.shape[1:].numel(),
        "BLOCK_LOOK_ROW": looks.blocks.shape[1:].numel(),
        "SUBJECT_ROW": geometry.subjects.shape[1:].numel(),
        "SUBJECT_LOOK_ROW": looks.subjects.shape[1:].numel(),
        "SUPERSAMPLE": supersample,
        "TILE_X": tile[0],
        "TILE_Y": tile[1],
        "BLOCK_LANES": triton.next_power_of_2(blocks),
        "SUBJECT_LANES": triton.next_power_of_2(subjects),
        "RICH": int(rich),
    }
