# SPDX-License-Identifier: Apache-2.0
"""Walls of the style "rich": a courtyard around, partitions in it, and openings to walk through.

A wall is a long, thin block. It is drawn as a line, cut into panels, and loses the panels that
some subject walks through: what is left are one or two blocks with a doorway between.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hydra_model.procedural.colors import muted_pairs
from hydra_model.procedural.motion import Motion
from hydra_model.procedural.random import choice, uniform

MAX_WALLS = 10  # blocks
HALF_THICKNESS = 0.12  # metres
CLEARANCE = 0.8  # metres that subjects' paths keep from walls and blocks: a cart reaches 0.7
SHORTEST = 0.7  # metres of a wall that is worth to stand
_OUTER, _INNER, _SCREENS, _PANELS = 4, 4, 2, 24
_LINES = _OUTER + _INNER
# Outer walls, partitions and screens that stand in a courtyard, in rooms and in the open.
_OUTER_SHARES, _INNER_SHARES = (1.0, 0.6, 0.25), (0.5, 0.85, 0.7)
# Patterns of a wall's faces beyond those of ``scenes``.
BRICKS, WINDOWS = 4, 5


def walked_points(motion: Motion) -> tuple[Tensor, Tensor]:
    """Return where subjects ever walk, [B, P, 2] in metres, and which points count, bool [B, P]."""
    # Long enough for the slowest straight walker to have walked its whole line.
    times = torch.linspace(-75, 15, 181, dtype=torch.float64, device=motion.speed.device)
    path = motion.position(times).flatten(1, 2)
    active = motion.active[:, None].expand(-1, len(times), -1).flatten(1, 2)
    return path, active


def sample_walls(
    seeds: Tensor, motion: Motion, subject_hues: Tensor, gaps: Tensor
) -> dict[str, Tensor]:
    """Draw the blocks of ``Scenes`` [B, MAX_WALLS, ...] that are walls; longest first."""
    centre, yaw, half_length, height = _lines(seeds, motion)
    start, length = _longest_runs(_free_panels(motion, centre, yaw, half_length))  # [B, L, 2]
    panel = (2 * half_length / _PANELS)[..., None]
    along = (start + length / 2) * panel - half_length[..., None]
    axis = torch.stack([yaw.cos(), yaw.sin()], -1)[:, :, None]
    half = (length * panel / 2).flatten(1)
    order = half.argsort(dim=1, descending=True, stable=True)[:, :MAX_WALLS]
    world = torch.arange(len(seeds), device=seeds.device)[:, None]
    line = torch.div(order, 2, rounding_mode="floor")
    half = half[world, order]
    sizes = torch.stack([half, torch.full_like(half, HALF_THICKNESS), height[world, line] / 2], -1)
    # Walls of one line look the same.
    pattern = choice(seeds, "wall pattern", (0.1, 0.15, 0.15, 0.15, 0.25, 0.2), _LINES)
    return {
        "block_centre": (centre[:, :, None] + along[..., None] * axis).flatten(1, 2)[world, order],
        "block_half": torch.where((half >= SHORTEST / 2)[..., None], sizes, -1.0),
        "block_yaw": yaw[world, line],
        "block_colors": muted_pairs(seeds, "wall", _LINES, subject_hues, gaps)[world, line],
        "block_pattern": pattern[world, line],
        "block_cell": uniform(seeds, "wall cell", _LINES, low=0.5, high=0.9)[world, line],
    }


def _lines(seeds: Tensor, motion: Motion) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw centres [B, L, 2], yaw, half lengths (0 where there is no wall) and heights [B, L]."""

    def draw(name: str, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(seeds, f"wall/{name}", count, low=low, high=high)

    layout = choice(seeds, "wall/layout", (0.45, 0.35, 0.2))
    # Four sides of a rectangle that is about the origin.
    turn = draw("turn", 1, high=math.pi / 2)
    sides = draw("side", 2, 7.0, 9.6)
    middle = draw("middle", 2, -0.7, 0.7)
    corner = torch.arange(4, device=seeds.device) * (math.pi / 2)
    facing = turn + corner
    across = torch.stack([facing.cos(), facing.sin()], -1)
    outer_centre = middle[:, None] + sides[:, [0, 1, 0, 1]][..., None] * across
    outer_half = sides[:, [1, 0, 1, 0]] + HALF_THICKNESS
    outer_height = draw("height", 1, 1.7, 3.0) + draw("unevenness", _OUTER, -0.3, 0.3)
    # Partitions lead away from the origin, between rooms; screens stand before where a subject
    # is for a moment, so that it goes out of sight and comes back.
    partition = torch.arange(_INNER, device=seeds.device) >= _SCREENS
    subject = torch.arange(_INNER, device=seeds.device) % motion.active.sum(1, keepdim=True)
    moments = draw("moment", _INNER, -3.5, 4.0)
    world = torch.arange(len(seeds), device=seeds.device)[:, None]
    moment = torch.arange(_INNER, device=seeds.device)
    behind = motion.position(moments)[world, moment, subject]
    anywhere = draw("bearing", _INNER, high=2 * math.pi)
    bearing = torch.where(partition, anywhere, torch.atan2(behind[..., 1], behind[..., 0]))
    reach = torch.where(partition, draw("reach", _INNER, 1.2, 2.2), draw("width", _INNER, 0.6, 1.3))
    before = (behind.norm(dim=-1) - draw("before", _INNER, 1.0, 2.0)).clamp(min=3.1)
    distance = torch.where(partition, draw("near", _INNER, 3.3, 4.4) + reach, before)
    inner_centre = distance[..., None] * torch.stack([bearing.cos(), bearing.sin()], -1)
    across_view = math.pi / 2 + draw("slant", _INNER, -0.3, 0.3)
    inner_yaw = bearing + torch.where(partition, 0.0, across_view)
    inner_height = draw("inner height", _INNER, 1.2, 2.3)

    shares = torch.tensor([_OUTER_SHARES, _INNER_SHARES], dtype=turn.dtype, device=seeds.device)
    share = shares.T[layout].repeat_interleave(
        torch.tensor([_OUTER, _INNER], device=seeds.device), dim=1
    )
    stands = draw("stands", _LINES) < share
    half_length = torch.cat([outer_half, reach], 1)
    return (
        torch.cat([outer_centre, inner_centre], 1),
        torch.cat([facing + math.pi / 2, inner_yaw], 1),
        torch.where(stands, half_length, 0.0),
        torch.cat([outer_height, inner_height], 1),
    )


def _free_panels(motion: Motion, centre: Tensor, yaw: Tensor, half_length: Tensor) -> Tensor:
    """Return bool [B, L, P]: nobody ever walks through the panel of a wall."""
    path, active = walked_points(motion)
    offset = path[:, None] - centre[:, :, None]  # [B, L, N, 2]
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    along = cos * offset[..., 0] + sin * offset[..., 1]
    across = cos * offset[..., 1] - sin * offset[..., 0]
    crosses = (across.abs() < CLEARANCE + HALF_THICKNESS) & active[:, None]
    panel = (2 * half_length / _PANELS)[..., None]
    free = []
    for index in range(_PANELS):
        from_panel = (along + half_length[..., None] - (index + 0.5) * panel).abs() - panel / 2
        free.append(~(crosses & (from_panel < CLEARANCE)).any(-1))
    return torch.stack(free, -1)


def _longest_runs(free: Tensor) -> tuple[Tensor, Tensor]:
    """Return first panels and lengths [B, L, 2] of the two longest runs in bool [B, L, P]."""
    place = torch.arange(free.shape[-1], device=free.device)
    starts, lengths = [], []
    for _ in range(2):
        run, runs = torch.zeros_like(free[..., 0], dtype=torch.int64), []
        for panel in free.unbind(-1):
            run = (run + 1) * panel
            runs.append(run)
        length, last = torch.stack(runs, -1).max(-1)
        start = last - length + 1
        starts.append(start)
        lengths.append(length)
        free = free & ((place < start[..., None]) | (place > last[..., None]))
    return torch.stack(starts, -1), torch.stack(lengths, -1)
