# SPDX-License-Identifier: Apache-2.0
"""What a procedural world holds: ground, sky, blocks and the looks of the subjects.

There are two styles. "plain" has blocks on open ground and walkers. "rich" also has walls with
doorways, more forms and patterns of subjects, walkers that turn at waypoints, and shadows that
fall along the sun's direction. A seed's world of one style never changes: weights know it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.procedural.colors import hsv_to_rgb, muted_pairs
from hydra_model.procedural.motion import MAX_SUBJECTS, PLAIN, RICH, STYLES, Motion, sample_motion
from hydra_model.procedural.random import choice, uniform
from hydra_model.procedural.subjects import sample_subjects
from hydra_model.procedural.tensors import TensorBatch
from hydra_model.procedural.walls import CLEARANCE, sample_walls, walked_points

MAX_BLOCKS = 10
RICH_BLOCKS = 6  # at most, beside the walls
CAMERA_CLEARANCE = 2.6  # metres around the origin without blocks
_SECTORS = 8  # block candidates are spread over this many directions
_CANDIDATES = 7 * _SECTORS
# Patterns of a block's faces; ``walls`` has more.
STRIPES_ACROSS, STRIPES_UP, CHECKS, TWO_TONE = range(4)


@dataclass(frozen=True)
class Scenes(TensorBatch):
    """A batch of worlds, float64; ROS world frame (z up, ground at z = 0), metres, RGB in [0, 1].

    ``subject_size`` [B, S, 2] is height and body radius, ``subject_shape`` [B, S, 7] the form
    (``subjects``; last the half length of a box, 0 for an ellipsoid), ``subject_pattern`` [B, S, 2]
    the kind and its cell in metres. Blocks are [B, N, ...]: centre (x, y),
    half sizes (along their own x and y, and height / 2; -1 for a block that is not there), yaw,
    two colours, pattern (int64) and its cell in metres. ``ground_waves`` [B, 4, 3] are wave
    vectors and phases of the patches; ``ground_pattern`` [B, 3] is angle, cell and stripes (1)
    or checks (0). ``sky_colors`` are zenith and horizon, ``mountain_waves`` [B, 4] phases.
    """

    motion: Motion
    subject_color: Tensor
    subject_size: Tensor
    subject_shape: Tensor
    subject_second_color: Tensor
    subject_pattern: Tensor
    block_centre: Tensor
    block_half: Tensor
    block_yaw: Tensor
    block_colors: Tensor
    block_pattern: Tensor
    block_cell: Tensor
    ground_colors: Tensor
    ground_pattern: Tensor
    ground_waves: Tensor
    sky_colors: Tensor
    mountain_colors: Tensor
    mountain_waves: Tensor
    mountain_height: Tensor
    sun_direction: Tensor
    style: str = PLAIN


def sample_scenes(seeds: Tensor, style: str = PLAIN) -> Scenes:
    """Draw one world per seed (int64 [B]); a world depends on its own seed and style alone."""
    if style not in STYLES:
        raise ValueError(f"world style is {style!r}; accepted: {', '.join(STYLES)}")
    motion = sample_motion(seeds, style)

    # Hues of the subjects are at least 60 degrees apart; blocks take hues between them.
    gaps = 1 / 6 + 0.5 * torch.nn.functional.normalize(
        -uniform(seeds, "hue gaps", MAX_SUBJECTS, low=1e-6).log(), p=1, dim=1
    )
    hues = uniform(seeds, "first hue", 1) + gaps.cumsum(1)
    walls = sample_walls(seeds, motion, hues, gaps) if style == RICH else None
    return Scenes(
        motion=motion,
        **sample_subjects(seeds, hues, style),
        **_sample_blocks(seeds, motion, hues, gaps, walls),
        **_sample_ground(seeds),
        **_sample_sky(seeds, low_sun=0.3 if style == PLAIN else 0.5),
        style=style,
    )


def _sample_blocks(
    seeds: Tensor,
    motion: Motion,
    subject_hues: Tensor,
    gaps: Tensor,
    walls: dict[str, Tensor] | None,
) -> dict[str, Tensor]:
    """Draw more blocks than needed, then keep the first ones that stand in nobody's way.

    With walls they are fewer, keep clear of those and come before them in the result.
    """
    n = _CANDIDATES
    sector = torch.arange(n, device=seeds.device) * 3 % _SECTORS  # neighbours come late
    turn = uniform(seeds, "block bearing", n) + sector + uniform(seeds, "block sectors", 1)
    bearing = turn * (2 * math.pi / _SECTORS)
    distance = uniform(seeds, "block distance", n, low=3.5, high=10.0)
    centre = distance[..., None] * torch.stack([bearing.cos(), bearing.sin()], -1)
    half = 0.3 + 1.2 * uniform(seeds, "block size", n, 3) ** 1.5
    turned = uniform(seeds, "block turned", n) < 0.7
    yaw = torch.where(turned, uniform(seeds, "block yaw", n, high=math.pi), 0.0)

    radius = half[..., :2].norm(dim=-1)
    allowed = distance - radius > CAMERA_CLEARANCE
    allowed &= _clear_of_paths(
        motion, centre, half, yaw, margin=0.5 if walls is None else CLEARANCE
    )
    apart = (centre[:, :, None] - centre[:, None]).norm(dim=-1)
    touching = apart < radius[:, :, None] + radius[:, None] + 0.2
    wanted = 6 + choice(seeds, "block count", (1.0,) * 5)
    if walls is not None:
        wanted = 3 + choice(seeds, "block count", (1.0,) * (RICH_BLOCKS - 2))
        allowed &= _clear_of_walls(walls, centre, radius, margin=0.15)
    kept = torch.zeros_like(allowed)
    # First one block per sector, so that there is something to see on all sides; then the rest.
    crowded = touching | (sector[:, None] == sector)
    for blocked in (crowded, touching):
        for i in range(n):
            free = ~(blocked[:, i] & kept).any(1) & (kept.sum(1) < wanted)
            kept[:, i] |= allowed[:, i] & free
    order = kept.to(torch.int64).argsort(dim=1, descending=True, stable=True)[:, :MAX_BLOCKS]
    world = torch.arange(len(seeds), device=seeds.device)[:, None]

    blocks = {
        "block_centre": centre[world, order],
        "block_half": torch.where(kept[world, order][..., None], half[world, order], -1.0),
        "block_yaw": yaw[world, order],
        "block_colors": muted_pairs(seeds, "block", MAX_BLOCKS, subject_hues, gaps),
        "block_pattern": choice(seeds, "block pattern", (1.0,) * 4, MAX_BLOCKS),
        "block_cell": uniform(seeds, "block cell", MAX_BLOCKS, low=0.35, high=0.7),
    }
    if walls is None:
        return blocks
    return {name: torch.cat([blocks[name][:, :RICH_BLOCKS], walls[name]], 1) for name in blocks}


def _clear_of_paths(
    motion: Motion, centre: Tensor, half: Tensor, yaw: Tensor, margin: float
) -> Tensor:
    """Return bool [B, N]: no active subject ever comes within ``margin`` of the block."""
    path, active = walked_points(motion)
    offset = path[:, None] - centre[:, :, None]
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    along = (cos * offset[..., 0] + sin * offset[..., 1]).abs() - half[..., 0:1]
    across = (cos * offset[..., 1] - sin * offset[..., 0]).abs() - half[..., 1:2]
    near = torch.maximum(along, across) < margin
    return ~(near & active[:, None]).any(-1)


def _clear_of_walls(
    walls: dict[str, Tensor], centre: Tensor, radius: Tensor, margin: float
) -> Tensor:
    """Return bool [B, N]: a block of ``radius`` [B, N] is ``margin`` or more from every wall."""
    offset = centre[:, :, None] - walls["block_centre"][:, None]  # [B, N, W, 2]
    yaw, half = walls["block_yaw"][:, None], walls["block_half"][:, None]
    cos, sin = yaw.cos(), yaw.sin()
    along = (cos * offset[..., 0] + sin * offset[..., 1]).abs() - half[..., 0]
    across = (cos * offset[..., 1] - sin * offset[..., 0]).abs() - half[..., 1]
    apart = torch.hypot(along.clamp(min=0), across.clamp(min=0))
    near = (apart < radius[..., None] + margin) & (half[..., 0] > 0)
    return ~near.any(-1)


def _sample_ground(seeds: Tensor) -> dict[str, Tensor]:
    def draw(name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(seeds, f"ground/{name}", low=low, high=high)

    # From earth over sand to grass, sometimes bluish stone; never as saturated as a subject.
    hue = torch.where(draw("stone") < 0.25, draw("stone hue", 0.5, 0.7), draw("hue", 0.06, 0.38))
    saturation, value = draw("saturation", 0.15, 0.35), draw("value", 0.5, 0.72)
    base = hsv_to_rgb(hue, saturation, value)
    other = hsv_to_rgb(hue + draw("shift", -0.05, 0.05), saturation, value * draw("dark", 0.7, 0.8))
    patch = hsv_to_rgb(hue + draw("patch shift", 0.1, 0.3), saturation + 0.05, value * 0.9)
    wave_angle = uniform(seeds, "ground/wave angle", 4, high=2 * math.pi)
    wave_number = 2 * math.pi / uniform(seeds, "ground/wave length", 4, low=5.0, high=12.0)
    phase = uniform(seeds, "ground/wave phase", 4, high=2 * math.pi)
    waves = [wave_number * wave_angle.cos(), wave_number * wave_angle.sin(), phase]
    stripes = choice(seeds, "ground/stripes", (0.7, 0.3)).to(torch.float64)
    pattern = [draw("angle", high=math.pi), draw("cell", 0.8, 1.6), stripes]
    return {
        "ground_colors": torch.stack([base, other, patch], 1),
        "ground_pattern": torch.stack(pattern, -1),
        "ground_waves": torch.stack(waves, -1),
    }


def _sample_sky(seeds: Tensor, low_sun: float) -> dict[str, Tensor]:
    def draw(name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(seeds, f"sky/{name}", low=low, high=high)

    zenith = hsv_to_rgb(
        draw("hue", 0.54, 0.64), draw("saturation", 0.35, 0.65), draw("v", 0.7, 0.95)
    )
    warm = torch.where(draw("evening") < 0.3, draw("warm hue", 0.03, 0.12), draw("pale", 0.5, 0.6))
    horizon = hsv_to_rgb(
        warm, draw("horizon saturation", 0.08, 0.25), draw("horizon v", 0.88, 0.97)
    )
    shade = draw("mountain saturation", 0.15, 0.3)
    near = hsv_to_rgb(draw("mountain hue 1"), shade, draw("mountain v 1", 0.35, 0.5))
    far = hsv_to_rgb(draw("mountain hue 2"), shade, draw("mountain v 2", 0.5, 0.65))
    azimuth, elevation = draw("sun azimuth", high=2 * math.pi), draw("sun elevation", low_sun, 1.1)
    level = elevation.cos()
    sun = [level * azimuth.cos(), level * azimuth.sin(), elevation.sin()]
    return {
        "sky_colors": torch.stack([zenith, horizon], 1),
        "mountain_colors": torch.stack([near, far], 1),
        "mountain_waves": uniform(seeds, "sky/mountain waves", 4, high=2 * math.pi),
        "mountain_height": draw("mountain height", 0.08, 0.2),
        "sun_direction": torch.stack(sun, -1),
    }
