# SPDX-License-Identifier: Apache-2.0
"""What a procedural world holds: ground, sky, blocks and the looks of the subjects."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.procedural.motion import MAX_SUBJECTS, Motion, sample_motion
from hydra_model.procedural.random import choice, uniform
from hydra_model.procedural.tensors import TensorBatch

MAX_BLOCKS = 10
CAMERA_CLEARANCE = 2.6  # metres around the origin without blocks
_SECTORS = 8  # block candidates are spread over this many directions
_CANDIDATES = 7 * _SECTORS
# Patterns of a block's faces.
STRIPES_ACROSS, STRIPES_UP, CHECKS, TWO_TONE = range(4)


@dataclass(frozen=True)
class Scenes(TensorBatch):
    """A batch of worlds, float64; ROS world frame (z up, ground at z = 0), metres, RGB in [0, 1].

    ``subject_size`` [B, S, 2] is height and body radius. Blocks are [B, N, ...]: centre (x, y),
    half sizes (along their own x and y, and height / 2; -1 for a block that is not there), yaw,
    two colours, pattern (int64) and its cell in metres. ``ground_waves`` [B, 4, 3] are wave
    vectors and phases of the patches; ``ground_pattern`` [B, 3] is angle, cell and stripes (1)
    or checks (0). ``sky_colors`` are zenith and horizon, ``mountain_waves`` [B, 4] phases.
    """

    motion: Motion
    subject_color: Tensor
    subject_size: Tensor
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


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Convert hue (turns, any real), saturation and value [...] to RGB [..., 3] in [0, 1]."""
    offset = torch.tensor([5.0, 3.0, 1.0], dtype=hue.dtype, device=hue.device)
    k = torch.remainder(offset + 6 * hue[..., None], 6)
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * ramp)


def sample_scenes(seeds: Tensor) -> Scenes:
    """Draw one world per seed (int64 [B]); a world depends on its own seed alone."""
    motion = sample_motion(seeds)

    # Hues of the subjects are at least 60 degrees apart; blocks take hues between them.
    gaps = 1 / 6 + 0.5 * torch.nn.functional.normalize(
        -uniform(seeds, "hue gaps", MAX_SUBJECTS, low=1e-6).log(), p=1, dim=1
    )
    hues = uniform(seeds, "first hue", 1) + gaps.cumsum(1)
    ones = torch.ones_like(hues)
    subject_color = hsv_to_rgb(hues, ones, uniform(seeds, "subject value", 3, low=0.85))
    height = uniform(seeds, "subject height", MAX_SUBJECTS, low=1.3, high=1.9)
    girth = height * uniform(seeds, "subject girth", MAX_SUBJECTS, low=0.15, high=0.2)

    return Scenes(
        motion=motion,
        subject_color=subject_color,
        subject_size=torch.stack([height, girth], -1),
        **_sample_blocks(seeds, motion, hues, gaps),
        **_sample_ground(seeds),
        **_sample_sky(seeds),
    )


def _sample_blocks(
    seeds: Tensor, motion: Motion, subject_hues: Tensor, gaps: Tensor
) -> dict[str, Tensor]:
    """Draw more blocks than needed, then keep the first ones that stand in nobody's way."""
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
    allowed &= _clear_of_paths(motion, centre, half, yaw, margin=0.5)
    apart = (centre[:, :, None] - centre[:, None]).norm(dim=-1)
    touching = apart < radius[:, :, None] + radius[:, None] + 0.2
    wanted = 6 + choice(seeds, "block count", (1.0,) * 5)
    kept = torch.zeros_like(allowed)
    # First one block per sector, so that there is something to see on all sides; then the rest.
    crowded = touching | (sector[:, None] == sector)
    for blocked in (crowded, touching):
        for i in range(n):
            free = ~(blocked[:, i] & kept).any(1) & (kept.sum(1) < wanted)
            kept[:, i] |= allowed[:, i] & free
    order = kept.to(torch.int64).argsort(dim=1, descending=True, stable=True)[:, :MAX_BLOCKS]
    world = torch.arange(len(seeds), device=seeds.device)[:, None]

    # Two muted colours from between the subjects' hues.
    between = choice(seeds, "block hue", (1.0,) * MAX_SUBJECTS, MAX_BLOCKS)
    gap = gaps.gather(1, between)
    hue = subject_hues.gather(1, between) - gap * uniform(
        seeds, "block hue in gap", MAX_BLOCKS, low=0.3, high=0.7
    )
    saturation = uniform(seeds, "block saturation", MAX_BLOCKS, low=0.15, high=0.45)
    value = uniform(seeds, "block value", MAX_BLOCKS, low=0.55, high=0.95)
    darker = value * uniform(seeds, "block contrast", MAX_BLOCKS, low=0.5, high=0.75)
    colors = [hsv_to_rgb(hue, saturation, value), hsv_to_rgb(hue + 0.03, saturation, darker)]
    return {
        "block_centre": centre[world, order],
        "block_half": torch.where(kept[world, order][..., None], half[world, order], -1.0),
        "block_yaw": yaw[world, order],
        "block_colors": torch.stack(colors, 2),
        "block_pattern": choice(seeds, "block pattern", (1.0,) * 4, MAX_BLOCKS),
        "block_cell": uniform(seeds, "block cell", MAX_BLOCKS, low=0.35, high=0.7),
    }


def _clear_of_paths(
    motion: Motion, centre: Tensor, half: Tensor, yaw: Tensor, margin: float
) -> Tensor:
    """Return bool [B, N]: no active subject ever comes within ``margin`` of the block."""
    # Long enough for the slowest straight walker to have walked its whole line.
    times = torch.linspace(-75, 15, 181, dtype=torch.float64, device=centre.device)
    path = motion.position(times).flatten(1, 2)  # [B, T*S, 2]
    active = motion.active[:, None].expand(-1, len(times), -1).flatten(1, 2)
    offset = path[:, None] - centre[:, :, None]
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    along = (cos * offset[..., 0] + sin * offset[..., 1]).abs() - half[..., 0:1]
    across = (cos * offset[..., 1] - sin * offset[..., 0]).abs() - half[..., 1:2]
    near = torch.maximum(along, across) < margin
    return ~(near & active[:, None]).any(-1)


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


def _sample_sky(seeds: Tensor) -> dict[str, Tensor]:
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
    azimuth, elevation = draw("sun azimuth", high=2 * math.pi), draw("sun elevation", 0.3, 1.1)
    level = elevation.cos()
    sun = [level * azimuth.cos(), level * azimuth.sin(), elevation.sin()]
    return {
        "sky_colors": torch.stack([zenith, horizon], 1),
        "mountain_colors": torch.stack([near, far], 1),
        "mountain_waves": uniform(seeds, "sky/mountain waves", 4, high=2 * math.pi),
        "mountain_height": draw("mountain height", 0.08, 0.2),
        "sun_direction": torch.stack(sun, -1),
    }
