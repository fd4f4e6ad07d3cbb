# SPDX-License-Identifier: Apache-2.0
"""How subjects walk: closed forms of time, so that any moment can be asked for, past or future.

Every motion is predictable from what a camera sees for a few seconds: constant speed along
a line, along a circle, or to and fro between two ends. Worlds of the style "rich" also have
walkers that turn at fixed waypoints, at constant speed, round and round.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.procedural.random import choice, sign, uniform
from hydra_model.procedural.tensors import TensorBatch

STRAIGHT, CIRCLE, TO_AND_FRO, WAYPOINTS = range(4)
MOTION_NAMES = ("straight", "circle", "back_and_forth", "waypoints")
MOTION_WEIGHTS = (0.55, 0.25, 0.20)
RICH_WEIGHTS = (0.65, 0.08, 0.07, 0.20)

MAX_SUBJECTS = 3
NEAREST = 3.2  # metres between a subject's path and the origin; cameras keep within 2 m of it
FARTHEST = 8.0  # metres from the origin that no subject passes during the episode
TURNING_RADIUS = 11.0  # straight walkers turn there, outside the episode's span
EPISODE_SPAN = 6.0  # seconds around 0 in which straight walkers do not turn
PLAIN, RICH = STYLES = ("plain", "rich")  # of worlds; see ``scenes``
_CANDIDATES = 8


@dataclass(frozen=True)
class Motion(TensorBatch):
    """Paths of the subjects on the ground, float64 [B, S] (S = MAX_SUBJECTS), metres and seconds.

    ``kind`` int64 is STRAIGHT, CIRCLE, TO_AND_FRO or WAYPOINTS. A line runs through ``centre``
    [B, S, 2] along the angle ``direction`` and turns ``extent`` from the centre; a circle of
    radius ``extent`` starts at the angle ``direction``; ``waypoints`` [B, S, W, 2] lie around the
    centre and are visited in turn, for ever (W is 0 where nobody does). ``phase`` is the way
    already walked at t = 0, ``speed`` is negative on a clockwise circle. ``active`` bool marks the
    subjects that exist.
    """

    kind: Tensor
    active: Tensor
    centre: Tensor
    direction: Tensor
    extent: Tensor
    speed: Tensor
    phase: Tensor
    waypoints: Tensor

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
        if self.waypoints.shape[2]:
            visits = (self.kind == WAYPOINTS)[:, None, :, None]
            place, along_leg = self._between_waypoints(walked)
            offset = torch.where(visits, place, offset)
            towards = torch.where(visits, along_leg, towards)
        return self.centre[:, None] + offset, self.speed[:, None, :, None] * towards

    def _between_waypoints(self, walked: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets from the centre and headings [B, T, S, 2] after metres [B, T, S]."""
        legs = self.waypoints.roll(-1, 2) - self.waypoints  # [B, S, W, 2]
        lengths = legs.norm(dim=-1)
        ends = lengths.cumsum(-1)
        walked = torch.remainder(walked, ends[:, None, :, -1].clamp(min=1e-9))
        # A leg of length 0, between equal waypoints, is never the current one.
        leg = (walked[..., None] >= ends[:, None]).sum(-1).clamp(max=lengths.shape[-1] - 1)

        def of_leg(values: Tensor) -> Tensor:
            table = values[:, None].expand(-1, walked.shape[1], *[-1] * (values.ndim - 1))
            index = leg.reshape(*leg.shape, *[1] * (values.ndim - 2))
            return table.gather(3, index.expand(*leg.shape, 1, *values.shape[3:])).squeeze(3)

        length = of_leg(lengths)
        heading = of_leg(legs) / length.clamp(min=1e-9)[..., None]
        done = walked - (of_leg(ends) - length)
        return of_leg(self.waypoints) + done[..., None] * heading, heading

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


def _candidates(seeds: Tensor, count: int, style: str) -> Motion:
    """Draw ``count`` motions per world without regard to each other."""
    shape = (count,)
    rich = style == RICH

    def draw(name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(seeds, f"motion/{name}", *shape, low=low, high=high)

    kind = choice(seeds, "motion/kind", RICH_WEIGHTS if rich else MOTION_WEIGHTS, *shape)
    turn = sign(seeds, "motion/turn", *shape)
    bearing = draw("bearing", high=2 * math.pi)

    # Straight: the line passes the origin at ``distance``, square to the bearing.
    straight_speed = draw("straight speed", 0.5 if rich else 0.3, 1.0)
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
    motion = Motion(
        kind=kind,
        active=torch.ones_like(kind, dtype=torch.bool),
        centre=distance[..., None] * torch.stack([bearing.cos(), bearing.sin()], -1),
        direction=pick(across, draw("angle", high=2 * math.pi), across + tilt.asin()),
        extent=extent,
        speed=pick(straight_speed, turn * circle_speed, fro_speed),
        phase=pick(straight_phase, torch.zeros_like(extent), draw("phase") * 4 * extent),
        waypoints=distance.new_zeros(len(seeds), count, 0, 2),
    )
    return with_waypoints(motion, seeds, bearing) if rich else motion


def with_waypoints(motion: Motion, seeds: Tensor, bearing: Tensor) -> Motion:
    """Give the motions of that kind their waypoints, on the side ``bearing`` [B, S] (radians).

    They are corners of a quadrilateral that faces the origin, near ones and far ones: all four,
    three, or two legs walked there and back.
    """
    shape = motion.kind.shape[1:]

    def draw(name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(seeds, f"motion/waypoints/{name}", *shape, low=low, high=high)

    half_angle = draw("half angle", 0.38, 0.7)
    # The chord between the near corners passes the origin at least at NEAREST.
    near = NEAREST / half_angle.cos() + draw("near", 0.0, 0.6)
    far = near + draw("depth", 0.35, 1.0) * (FARTHEST - 0.3 - near)
    turn = sign(seeds, "motion/waypoints/turn", *shape)
    corners = []
    for side, radius in ((-1, near), (1, near), (1, far), (-1, far)):
        angle = bearing + turn * side * half_angle
        corners.append(radius[..., None] * torch.stack([angle.cos(), angle.sin()], -1))
    corner = torch.stack(corners, 2)  # [B, S, 4, 2]
    form = choice(seeds, "motion/waypoints/form", (0.45, 0.3, 0.25), *shape)
    orders = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 2], [0, 1, 2, 1]], device=seeds.device)
    waypoints = corner.gather(2, orders[form][..., None].expand(*form.shape, 4, 2))
    centre = waypoints.mean(2)
    length = (waypoints.roll(-1, 2) - waypoints).norm(dim=-1).sum(-1)
    own = motion.kind == WAYPOINTS
    speed = draw("speed", 0.5, 1.0)
    return dataclasses.replace(
        motion,
        centre=torch.where(own[..., None], centre, motion.centre),
        extent=torch.where(own, length, motion.extent),
        speed=torch.where(own, speed, motion.speed),
        phase=torch.where(own, draw("phase") * length, motion.phase),
        waypoints=waypoints - centre[:, :, None],
    )


def sample_motion(seeds: Tensor, style: str = PLAIN) -> Motion:
    """Draw the motions of 1 to 3 subjects per world; subjects keep 0.8 m apart where possible."""
    candidates = _candidates(seeds, MAX_SUBJECTS * _CANDIDATES, style)
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
