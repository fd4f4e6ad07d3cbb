# SPDX-License-Identifier: Apache-2.0
"""Revisits are places that were seen, lost for a second and found again."""

import math

import torch

from hydra_model.evaluation.revisits import revisited
from hydra_model.procedural.trajectories import optical_poses

FPS, CONTEXT, TARGET = 15.0, 45, 45
FOV_X = math.radians(70)


def look(yaw_degrees: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """A camera on the spot in front of an endless cylinder, 5 m away, without subjects."""
    yaw = torch.tensor(yaw_degrees, dtype=torch.float64) * math.pi / 180
    poses = optical_poses(torch.zeros(len(yaw), 3, dtype=torch.float64), yaw, torch.zeros_like(yaw))
    times = torch.arange(1 - CONTEXT, TARGET + 1, dtype=torch.float64) / FPS
    half = math.tan(FOV_X / 2)
    x = (torch.arange(32) + 0.5 - 16) / 16 * half
    depth = (5 / (1 + x**2).sqrt()).expand(1, len(yaw), 24, 32)
    ids = torch.zeros(depth.shape, dtype=torch.uint8)
    _, mask = revisited(
        poses[None], times, depth.contiguous(), ids, context_frames=CONTEXT, fov_x=FOV_X
    )
    return mask[0], mask[0].any((1, 2))


def test_a_camera_that_stays_revisits_nothing():
    mask, _ = look([0.0] * (CONTEXT + TARGET))
    assert not mask.any()


def test_a_camera_that_looks_away_and_back_revisits_everything_sampled():
    away = [0.0] * 25 + [120.0] * 30 + [0.0] * 35
    mask, frames = look(away)
    first_back = (25 + 30 - CONTEXT + 3) // 4
    assert not frames[:first_back].any()
    assert mask[first_back:, 2::4, 2::4].all()


def test_a_place_never_seen_in_the_context_is_no_revisit():
    new = [0.0] * CONTEXT + [120.0] * 5 + [0.0] * 5 + [120.0] * 35
    assert not look(new)[0].any()


def test_a_short_look_away_is_no_revisit():
    assert not look([0.0] * CONTEXT + [120.0] * 8 + [0.0] * 37)[0].any()


def test_only_the_overlap_is_revisited():
    # Seen at 0, away, back at 35 degrees to the left: half of the picture is known.
    half = [0.0] * 25 + [-120.0] * 30 + [35.0] * 35
    mask, _ = look(half)
    last = mask[-1, 2::4, 2::4]
    assert last[:, -3:].all()
    assert not last[:, :3].any()
