# SPDX-License-Identifier: Apache-2.0
"""Episodes that leave a place and come back: camera paths through held-out procedural worlds.

A history that was observed ends at time 0; the target follows. The camera looks home, turns
away, looks around elsewhere and is back home shortly after time 0. The gap is how long home was
out of sight.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hydra_model.config import ModelConfig
from hydra_model.evaluation.worlds import EVALUATION_SEEDS_START
from hydra_model.procedural.episodes import Worlds, sample_worlds
from hydra_model.procedural.trajectories import optical_poses

Array = npt.NDArray[np.float64]

FAMILIES = ("look_away", "crossing", "several_subjects", "translation", "full_circle")
GAPS = (2.0, 5.0, 15.0, 60.0)  # seconds
DWELL = 5.1  # seconds at least that home is looked at first
_BACK = 0.2  # seconds into the target at which the camera begins to turn back
_CIRCLE_CLOSED = 1.5  # seconds into the target at which a full circle is closed
_SUBJECT_AT = 2.5  # seconds into the target: where a subject is then decides where to look


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A world, and optical camera poses ``[T, 4, 4]`` at ``times [T]`` (seconds).

    ``clips`` are the lengths of the history's clips, in video frames; the target follows.
    """

    seed: int
    family: str
    gap: float
    worlds: Worlds
    clips: tuple[int, ...]
    times: Array
    poses: Array

    @property
    def history(self) -> int:
        """Video frames before the target."""
        return sum(self.clips)


def make_episodes(config: ModelConfig, family: str, gap: float, count: int) -> list[Episode]:
    """Make the first ``count`` held-out worlds that fit a family into episodes for a model."""
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; accepted: {', '.join(FAMILIES)}")
    episodes: list[Episode] = []
    seed = EVALUATION_SEEDS_START
    while len(episodes) < count:
        worlds = sample_worlds(seed, style=config.world_style)
        if family != "several_subjects" or int(worlds.scenes.motion.active.sum()) > 1:
            episodes.append(_episode(config, seed, family, gap, worlds))
        seed += 1
    return episodes


def _episode(config: ModelConfig, seed: int, family: str, gap: float, worlds: Worlds) -> Episode:
    chunk, fps = config.chunk_frames, config.video.fps
    draw = random.Random(f"{family} {seed}")
    turn = min(1.2, 0.4 * gap)  # seconds that a turn takes
    leave = 0.2 * turn + _BACK - gap
    if family == "full_circle":
        leave = _CIRCLE_CLOSED - gap * 360 / 290  # at 70 degrees, home is out of sight for gap
    later = math.ceil(((DWELL - leave) * fps - config.context_frames) / chunk)
    clips = (config.context_frames, *(chunk,) * max(0, later))
    times = np.arange(1 - sum(clips), chunk + 1) / fps

    base = np.array([draw.uniform(-0.5, 0.5), draw.uniform(-0.5, 0.5), draw.uniform(1.3, 1.6)])
    before, after = _bearings(worlds, base, leave - 1.0, family)
    side = draw.choice((-1.0, 1.0))
    sway = np.radians(4) * np.sin(2 * np.pi * times / draw.uniform(4, 7))
    if family == "full_circle":
        share = np.clip((times - leave) / (_CIRCLE_CLOSED - leave), 0, 1)
        yaw = before + side * 2 * np.pi * share + sway * (times < leave)
        away = np.zeros_like(times)
    else:
        away = _smooth((times - leave) / turn) - _smooth((times - _BACK) / turn)
        # Looking around elsewhere keeps home, 35 degrees wide on either side, out of sight.
        around = np.radians(40) * np.sin(2 * np.pi * (times - leave) / 9.0)
        angle = side * np.radians(draw.uniform(125, 170)) + around * away
        home = before + (after - before) * _smooth((times - leave - turn) / (-leave - turn))
        yaw = home + angle * away + sway * (1 - away)
    position = np.tile(base, (len(times), 1))
    if family == "translation":
        # One arc while nobody sees home, back to a place beside the one that was left.
        shifted = 1.3 * away + 0.5 * _smooth((times - leave) / turn)
        position[:, 0] += shifted * -math.sin(before)
        position[:, 1] += shifted * math.cos(before)
    pitch = np.full(len(times), np.radians(draw.uniform(-5, 0)))
    poses = optical_poses(*(torch.from_numpy(part) for part in (position, yaw, pitch)))
    return Episode(
        seed=seed, family=family, gap=gap, worlds=worlds, clips=clips, times=times,
        poses=poses.numpy(),
    )  # fmt: skip


def _bearings(worlds: Worlds, base: Array, seen: float, family: str) -> tuple[float, float]:
    """Return where to look at first and at the end (radians): towards one of the subjects.

    A crossing looks to where the subject will be; other families come back to the same place,
    between the bearings of the subject that moves least.
    """
    motion = worlds.scenes.motion
    at = torch.tensor([seen, _SUBJECT_AT], dtype=torch.float64)
    offset = motion.position(at)[0, :, motion.active[0]].numpy() - base[:2]  # [2, S, 2]
    bearing = np.arctan2(offset[..., 1], offset[..., 0])
    change = np.remainder(bearing[1] - bearing[0] + np.pi, 2 * np.pi) - np.pi
    if family == "crossing":
        # The one that crosses farthest without ending up behind.
        subject = int(np.where(np.abs(change) < np.radians(100), np.abs(change), -1).argmax())
        return float(bearing[0, subject]), float(bearing[0, subject] + change[subject])
    subject = int(np.abs(change).argmin())
    half = float(np.clip(change[subject] / 2, -np.radians(25), np.radians(25)))
    return (float(bearing[0, subject] + half),) * 2


def _smooth(x: Array) -> Array:
    """Go from 0 to 1 with no jump in speed or acceleration."""
    x = np.clip(x, 0, 1)
    return x * x * x * (x * (6 * x - 15) + 10)
