# SPDX-License-Identifier: Apache-2.0
"""How subjects walk: closed forms of time, so that any moment can be asked for, past or future.

Every motion is predictable from what a camera sees for a few seconds: constant speed along
a line, along a circle, or to and fro between two ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.procedural.random import choice, sign, uniform
from hydra_model.procedural.tensors import TensorBatch

STRAIGHT, CIRCLE, TO_AND_FRO = range(3)
MOTION_NAMES = ("straight", "circle", "back_and_forth")
MOTION_WEIGHTS = (0.55, 0.25, 0.20)

MAX_SUBJECTS = 3
NEAREST = 3.2  # metres between a subject's path and the origin; cameras keep within 2 m of it
FARTHEST = 8.0  # metres from the origin that no subject passes during the episode
TURNING_RADIUS = 11.0  # straight walkers turn there, outside the episode's span
EPISODE_SPAN = 6.0  # seconds around 0 in which straight walkers do not turn
_CANDIDATES = 8


@dataclass(frozen=True)
class Motion(TensorBatch):
    """Paths of the subjects on the ground, float64 [B, S] (S = MAX_SUBJECTS), metres and seconds.

    ``kind`` int64 is STRAIGHT, CIRCLE or TO_AND_FRO. A line runs through ``centre`` [B, S, 2]
    along the angle ``direction`` and turns ``extent`` from the centre; a circle of radius
    ``extent`` starts at the angle ``direction``. ``phase`` is the way already walked at t = 0,
    ``speed`` is negative on a clockwise circle. ``active`` bool marks the subjects that exist.
    """

    kind: Tensor
    active: Tensor
    centre: Tensor
    direction: Tensor
    extent: Tensor
    speed: Tensor
    phase: Tensor

    def state(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions and velocities [B, T, S, 2] at times [T] or [B, T] (seconds)."""
        times = times if times.ndim == 2 else times.expand(len(self), -1)
        walked = self.phase[:, None] + self.speed[:, None] * times[:, :, None].to(self.phase)
        extent, direction = self.extent[:, None], self.direction[:, None]
        # A line: walked distance folded into a triangle wave between the two ends.
        folded = torch.remainder(walked + extent, 4 * extent)
        along = extent - (folded - 2 * extent).abs()
        line = torch.stack([direction.cos(), direction.sin()], -1).expand(*walked.shape, 2)
        heading = torch.where(folded < 2 * extent, 1.0, -1.0)
        # A circle.
        angle = direction + walked / extent
        radial = torch.stack([angle.cos(), angle.sin()], -1)
        tangent = torch.stack([-angle.sin(), angle.cos()], -1)
        is_circle = (self.kind == CIRCLE)[:, None, :, None]
        offset = torch.where(is_circle, extent[..., None] * radial, along[..., None] * line)
        towards = torch.where(is_circle, tangent, heading[..., None] * line)
        return self.centre[:, None] + offset, self.speed[:, None, :, None] * towards

    def position(self, times: Tensor) -> Tensor:
        """Return positions [B, T, S, 2] in metres at times [T] or [B, T] (seconds)."""
        return self.state(times)[0]

    def extrapolate(self, seen_at: Tensor, times: Tensor) -> Tensor:
        """Continue from the state at ``seen_at`` [B] in a straight line to times [B, T].

        The reference that any predictor of positions must beat; exact for straight walkers.
        Returns positions [B, T, S, 2].
        """
        position, velocity = self.state(seen_at[:, None])
        elapsed = (times - seen_at[:, None])[:, :, None, None]
        return position + velocity * elapsed


def _candidates(seeds: Tensor, count: int) -> Motion:
    """Draw ``count`` motions per world without regard to each other."""
    shape = (count,)

    def draw(name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(seeds, f"motion/{name}", *shape, low=low, high=high)

    kind = choice(seeds, "motion/kind", MOTION_WEIGHTS, *shape)
    turn = sign(seeds, "motion/turn", *shape)
    bearing = draw("bearing", high=2 * math.pi)

    # Straight: the line passes the origin at ``distance``, square to the bearing.
    straight_speed = draw("straight speed", 0.3, 1.0)
    distance = draw("passing distance", NEAREST, 5.2)
    reach = (FARTHEST**2 - distance**2).sqrt()
    straight_phase = draw("straight phase", -1, 1) * (reach - EPISODE_SPAN * straight_speed)
    straight_extent = (TURNING_RADIUS**2 - distance**2).sqrt()

    radius = draw("circle radius", 0.6, 1.5)
    circle_distance = NEAREST + radius + draw("circle distance") * (7.8 - NEAREST - 2 * radius)
    circle_speed = draw("circle speed", 0.4, 1.0)

    fro_speed = draw("to-and-fro speed", 0.4, 1.0)
    fro_extent = fro_speed * draw("to-and-fro period", 5.0, 10.0) / 4
    fro_distance = draw("to-and-fro distance", NEAREST, 5.5)
    # Any direction that keeps the ends clear of the camera: mostly across the view.
    tilt = draw("to-and-fro tilt", -1, 1) * ((fro_distance - NEAREST) / fro_extent).clamp(0, 0.8)

    def pick(straight: Tensor, circle: Tensor, fro: Tensor) -> Tensor:
        return torch.where(kind == STRAIGHT, straight, torch.where(kind == CIRCLE, circle, fro))

    across = bearing + turn * math.pi / 2
    distance = pick(distance, circle_distance, fro_distance)
    extent = pick(straight_extent, radius, fro_extent)
    return Motion(
        kind=kind,
        active=torch.ones_like(kind, dtype=torch.bool),
        centre=distance[..., None] * torch.stack([bearing.cos(), bearing.sin()], -1),
        direction=pick(across, draw("angle", high=2 * math.pi), across + tilt.asin()),
        extent=extent,
        speed=pick(straight_speed, turn * circle_speed, fro_speed),
        phase=pick(straight_phase, torch.zeros_like(extent), draw("phase") * 4 * extent),
    )


def sample_motion(seeds: Tensor) -> Motion:
    """Draw the motions of 1 to 3 subjects per world; subjects keep 0.8 m apart where possible."""
    candidates = _candidates(seeds, MAX_SUBJECTS * _CANDIDATES)
    times = torch.linspace(
        -EPISODE_SPAN, EPISODE_SPAN, 49, dtype=torch.float64, device=seeds.device
    )
    paths = candidates.position(times)  # [B, T, candidates, 2]
    world = torch.arange(len(seeds), device=seeds.device)
    chosen = [torch.zeros_like(world)]
    for subject in range(1, MAX_SUBJECTS):
        own = slice(subject * _CANDIDATES, (subject + 1) * _CANDIDATES)
        gap = torch.full_like(paths[:, 0, own, 0], torch.inf)
        for other in chosen:
            difference = paths[:, :, own] - paths[world, :, other][:, :, None]
            gap = torch.minimum(gap, difference.norm(dim=-1).amin(dim=1))
        # The first candidate that keeps clear; where none does, the one with the widest gap.
        score = torch.where(gap > 0.8, 10.0 - torch.arange(_CANDIDATES, device=gap.device), gap)
        chosen.append(subject * _CANDIDATES + score.argmax(dim=1))
    index = torch.stack(chosen, 1)
    count = choice(seeds, "motion/count", (0.3, 0.4, 0.3)) + 1
    motion = candidates.map(lambda value: value[world[:, None], index])
    active = torch.arange(MAX_SUBJECTS, device=seeds.device) < count[:, None]
    return Motion(**{**vars(motion), "active": active})
