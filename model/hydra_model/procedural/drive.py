# SPDX-License-Identifier: Apache-2.0
"""A teleoperated base: forward speed and yaw rate that change in steps, kept near the origin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.procedural.random import choice, uniform
from hydra_model.procedural.tensors import TensorBatch

LEG = 1.5  # seconds between changes of the command
FIRST_TIME = -72.0  # seconds; before it the base stands
LEGS = 56  # to 12 s; after it the base stands
RADIUS = 1.4  # metres from where it started that the end of a leg may lie
_TRIES = 4
_SMOOTHING = 0.3  # seconds over which a change of the command is spread


@dataclass(frozen=True)
class Drive(TensorBatch):
    """Arcs, float64: each leg's start (x, y, yaw) [B, L, 3] and (speed, rate) [B, L, 2]."""

    starts: Tensor
    commands: Tensor

    def state(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return positions [B, T, 2] in metres and yaw [B, T] at times [B, T] (seconds)."""
        # The mean over a short while rounds the corners between legs.
        parts = [self._on_arc(times + d * _SMOOTHING) for d in (-0.5, -0.25, 0.0, 0.25, 0.5)]
        state = sum(parts[1:], parts[0]) / len(parts)
        return state[..., :2], state[..., 2]

    def _on_arc(self, times: Tensor) -> Tensor:
        elapsed = (times - FIRST_TIME).clamp(0, LEGS * LEG)
        leg = (elapsed / LEG).to(torch.int64).clamp(max=LEGS - 1)
        start = self.starts.gather(1, leg[..., None].expand(*leg.shape, 3))
        command = self.commands.gather(1, leg[..., None].expand(*leg.shape, 2))
        return _advance(start, command, elapsed - leg * LEG)


def _advance(start: Tensor, command: Tensor, elapsed: Tensor) -> Tensor:
    """Drive an arc: start (x, y, yaw) [..., 3], command (speed, rate) [..., 2], seconds [...]."""
    speed, rate = command.unbind(-1)
    turned = rate * elapsed
    # The chord of an arc: sinc keeps a straight line exact.
    chord = speed * elapsed * torch.sinc(turned / (2 * math.pi))
    towards = start[..., 2] + turned / 2
    change = torch.stack([chord * towards.cos(), chord * towards.sin(), turned], -1)
    return start + change


def sample_drive(seeds: Tensor, moving: Tensor) -> Drive:
    """Draw a drive per world (seeds int64 [B]); where ``moving`` bool [B] is not set it stands."""
    shape = (LEGS, _TRIES)
    speed = uniform(seeds, "drive/speed", *shape, low=0.2, high=1.0)
    speed = torch.where(choice(seeds, "drive/stop", (0.8, 0.2), *shape) == 1, 0.0, speed)
    rate = uniform(seeds, "drive/rate", *shape, low=-60, high=60) * (math.pi / 180)
    rate = torch.where(choice(seeds, "drive/straight", (0.75, 0.25), *shape) == 1, 0.0, rate)
    commands = torch.stack([speed, rate], -1)
    # The last try turns on the spot, which is always possible.
    commands[:, :, -1, 0] = 0.0
    commands[:, :, -1, 1] = torch.where(rate[:, :, -1] < 0, -1.0, 1.0) * math.radians(50)

    state = torch.zeros(len(seeds), 3, dtype=torch.float64, device=seeds.device)
    world = torch.arange(len(seeds), device=seeds.device)
    duration = torch.full_like(rate[:, 0], LEG)
    starts, driven = [], []
    for leg in range(LEGS):
        ends = _advance(state[:, None].expand(-1, _TRIES, -1), commands[:, leg], duration)
        inside = ends[..., :2].norm(dim=-1) < RADIUS
        inside[:, -1] = True
        first = inside.to(torch.int64).argmax(1)
        starts.append(state)
        driven.append(commands[world, leg, first])
        state = ends[world, first]
    still = (~moving)[:, None, None]
    return Drive(
        starts=torch.where(still, 0.0, torch.stack(starts, 1)),
        commands=torch.where(still, 0.0, torch.stack(driven, 1)),
    )
