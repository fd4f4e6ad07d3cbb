# SPDX-License-Identifier: Apache-2.0
"""Camera paths as closed forms of time: a family is a choice of the same few parameters.

Cameras know nothing of the subjects' motion except where to start looking. All paths are
defined at all times and stay within ``CAMERA_RADIUS`` of the origin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.procedural.drive import Drive, sample_drive
from hydra_model.procedural.motion import Motion
from hydra_model.procedural.random import choice, sign, uniform
from hydra_model.procedural.tensors import TensorBatch

FAMILIES = ("look_away", "sinusoid", "drive", "strafe", "orbit", "full_turn", "mild")
TRAINING_WEIGHTS = (0.36, 0.18, 0.18, 0.08, 0.08, 0.07, 0.05)
CAMERA_RADIUS = 2.0  # metres from the origin


@dataclass(frozen=True)
class Trajectories(TensorBatch):
    """Camera paths of B worlds, float64 [B] unless said otherwise; metres, seconds, radians.

    Yaw is the sum of the start, a swing (sine), a steady turn, a look away and a drive; swings
    with a ``pivot`` move the camera around a point that far ahead. Pitch is up. ``family`` int64
    is an index into FAMILIES. Sines are [B, 3]: amplitude, period, phase. ``away`` is [B, 6]:
    angle, departure, duration of the way there, return, duration of the way back, period.
    """

    family: Tensor
    base: Tensor  # [B, 3]
    start_yaw: Tensor
    swing: Tensor
    pivot: Tensor
    turn_rate: Tensor
    lateral: Tensor
    away: Tensor
    pitch: Tensor
    pitch_wave: Tensor
    drive: Drive

    def relative_yaw(self, times: Tensor) -> Tensor:
        """Return the yaw beyond ``start_yaw`` [B, T] at times [T] or [B, T]."""
        times = _per_world(times, len(self))
        return (
            _wave(self.swing, times)
            + self.turn_rate[:, None] * times
            + self._look_away(times)
            + self.drive.state(times)[1]
        )

    def _look_away(self, times: Tensor) -> Tensor:
        """Look away and back once per period, to alternating sides so that all is seen."""
        angle, depart, there, back, home, period = self.away.unbind(1)
        start = (depart - 1)[:, None]
        cycle = torch.floor((times - start) / period[:, None])
        local = times - cycle * period[:, None]
        side = 1 - 2 * torch.remainder(cycle, 2)
        rise = _smooth((local - depart[:, None]) / there[:, None])
        fall = _smooth((local - back[:, None]) / home[:, None])
        return angle[:, None] * side * (rise - fall)

    def poses(self, times: Tensor) -> Tensor:
        """Return optical camera-to-world poses float64 [B, T, 4, 4] at times [T] or [B, T]."""
        times = _per_world(times, len(self))
        yaw = self.start_yaw[:, None] + self.relative_yaw(times)
        pitch = self.pitch[:, None] + _wave(self.pitch_wave, times)
        start = self.start_yaw[:, None]
        swung = start + _wave(self.swing, times)
        forward_start = torch.stack([start.cos(), start.sin()], -1)
        forward_swung = torch.stack([swung.cos(), swung.sin()], -1)
        right = torch.stack([start.sin(), -start.cos()], -1)
        position = self.base[:, None, :2] + _wave(self.lateral, times)[..., None] * right
        position = position + self.pivot[:, None, None] * (forward_start - forward_swung)
        moved = self.drive.state(times)[0]
        position = position + torch.stack(
            [
                start.cos() * moved[..., 0] - start.sin() * moved[..., 1],
                start.sin() * moved[..., 0] + start.cos() * moved[..., 1],
            ],
            -1,
        )
        height = self.base[:, None, 2:].expand(*position.shape[:2], 1)
        return optical_poses(torch.cat([position, height], -1), yaw, pitch)


def optical_poses(position: Tensor, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Return camera-to-world [..., 4, 4] of an upright camera (x right, y down, z forward).

    ``position`` [..., 3] in metres; yaw turns left from the x axis, pitch looks up; radians.
    """
    zero = torch.zeros_like(yaw)
    level = pitch.cos()
    forward = torch.stack([yaw.cos() * level, yaw.sin() * level, pitch.sin()], -1)
    right = torch.stack([yaw.sin(), -yaw.cos(), zero], -1)
    down = torch.linalg.cross(forward, right)
    rotation = torch.stack([right, down, forward, position], -1)
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=yaw.dtype, device=yaw.device)
    return torch.cat([rotation, last.expand(*yaw.shape, 1, 4)], -2)


def choose_families(seeds: Tensor, weights: Sequence[float] = TRAINING_WEIGHTS) -> Tensor:
    """Draw one index into FAMILIES per world, int64 [B]."""
    if len(weights) != len(FAMILIES):
        raise ValueError(
            f"there are {len(weights)} weights; accepted is one for each of {FAMILIES}"
        )
    return choice(seeds, "camera/family", weights)


def family_index(name: str) -> int:
    """Return the index of a family's name."""
    if name not in FAMILIES:
        raise ValueError(f"family is {name!r}; accepted are {', '.join(FAMILIES)}")
    return FAMILIES.index(name)


def sample_trajectories(seeds: Tensor, families: Tensor, motion: Motion) -> Trajectories:
    """Draw one camera path per world (seeds and families int64 [B]).

    The start looks towards where ``motion`` has a subject at some time of the context in most
    worlds, so that subjects leave the view and come back.
    """

    def draw(name: str, low: float = 0.0, high: float = 1.0) -> Tensor:
        return uniform(seeds, f"camera/{name}", low=low, high=high)

    def only(names: str, value: Tensor) -> Tensor:
        """Keep ``value`` in the worlds of the named families, else zero."""
        chosen = torch.zeros_like(families, dtype=torch.bool)
        for name in names.split():
            chosen |= families == family_index(name)
        return torch.where(chosen.reshape(-1, *[1] * (value.ndim - 1)), value, 0.0)

    degree = math.pi / 180
    turn = sign(seeds, "camera/turn")
    swing = only("sinusoid", draw("swing", 30, 90)) + only("orbit", draw("orbit swing", 12, 24))
    swing = swing + only("mild", draw("mild swing", 2, 10))
    swing = swing + only("strafe look_away", draw("sway", 0, 4))
    lateral = only("strafe", draw("strafe", 0.5, 1.2)) + only("mild", draw("mild strafe", 0, 0.3))
    depart = draw("depart", -4.5, -0.7)
    angle = draw("away angle", 60, 180) * degree
    back = draw("return", 0.3, 2.8)
    home = (angle / (draw("home rate", 50, 130) * degree)).clamp(max=4.8 - back)
    base_radius, base_bearing = draw("base radius", 0, 0.5), draw("base bearing", 0, 2 * math.pi)
    base = [base_radius * base_bearing.cos(), base_radius * base_bearing.sin()]
    trajectories = Trajectories(
        family=families,
        base=torch.stack([*base, draw("height", 1.2, 1.7)], -1),
        start_yaw=torch.zeros_like(angle),
        swing=_wave_parameters(swing * degree, draw("swing period", 5, 12), draw("swing phase")),
        pivot=only("orbit", draw("pivot", 2.5, 3.5)),
        turn_rate=only("full_turn", turn * draw("turn rate", 30, 60) * degree),
        lateral=_wave_parameters(lateral, draw("strafe period", 6.5, 11), draw("strafe phase")),
        away=torch.stack(
            [
                only("look_away", turn * angle),
                depart,
                # The way there ends before the way back begins.
                torch.minimum(angle / (draw("away rate", 50, 130) * degree), back - depart),
                back,
                home,
                draw("away period", 12, 16),
            ],
            -1,
        ),
        pitch=draw("pitch", -6, 3) * degree,
        pitch_wave=_wave_parameters(
            draw("pitch wave", 0, 2) * degree, draw("pitch period", 5, 12), draw("pitch phase")
        ),
        drive=sample_drive(seeds, families == family_index("drive")),
    )
    start_yaw = _start_yaw(seeds, trajectories, motion)
    return Trajectories(**{**vars(trajectories), "start_yaw": start_yaw})


def _start_yaw(seeds: Tensor, trajectories: Trajectories, motion: Motion) -> Tensor:
    """Choose where to look first: mostly at a subject, at a time that matters to the family."""
    _, depart, _, back, home, _ = trajectories.away.unbind(1)
    before = -5.0 + uniform(seeds, "camera/seen at") * (depart + 5.0)
    after = back + home + uniform(seeds, "camera/again at") * (5.1 - back - home)
    context = uniform(seeds, "camera/context time", low=-5.0, high=0.0)
    looks_away = trajectories.family == family_index("look_away")
    times = torch.stack([torch.where(looks_away, before, context), after], 1)
    bearing_there = motion.position(times) - trajectories.base[:, None, None, :2]
    bearing = torch.atan2(bearing_there[..., 1], bearing_there[..., 0])  # [B, 2, S]
    change = torch.remainder(bearing[:, 1] - bearing[:, 0] + math.pi, 2 * math.pi) - math.pi
    # A look away that comes back to an empty place teaches little: prefer the subject whose
    # bearing changes least, and look between its two bearings.
    world = torch.arange(len(seeds), device=seeds.device)
    count = motion.active.sum(1)
    any_subject = (uniform(seeds, "camera/subject") * count).to(torch.int64)
    steady = torch.where(motion.active, change.abs(), torch.inf).argmin(1)
    subject = torch.where(looks_away, steady, any_subject)
    towards = bearing[world, 0, subject] + torch.where(looks_away, change[world, subject] / 2, 0.0)
    jitter = uniform(seeds, "camera/jitter", low=-1, high=1) * math.radians(15)
    aimed = towards + jitter - trajectories.relative_yaw(times[:, :1])[:, 0]
    anywhere = uniform(seeds, "camera/anywhere", high=2 * math.pi)
    return torch.where(uniform(seeds, "camera/aimed") < 0.88, aimed, anywhere)


def _per_world(times: Tensor, batch: int) -> Tensor:
    times = times.to(torch.float64)
    return times if times.ndim == 2 else times.expand(batch, -1)


def _wave_parameters(amplitude: Tensor, period: Tensor, phase: Tensor) -> Tensor:
    """Stack a sine's amplitude, period (s) and phase (in turns) into [B, 3]."""
    return torch.stack([amplitude, period, phase * 2 * math.pi], -1)


def _wave(parameters: Tensor, times: Tensor) -> Tensor:
    amplitude, period, phase = parameters[:, :, None].unbind(1)
    return amplitude * torch.sin(2 * math.pi / period * times + phase)


def _smooth(x: Tensor) -> Tensor:
    """Go from 0 to 1 with no jump in speed or acceleration."""
    x = x.clamp(0, 1)
    return x * x * x * (x * (6 * x - 15) + 10)
