# SPDX-License-Identifier: Apache-2.0
"""Cameras move as their family says, upright, smoothly and near the origin."""

import math

import pytest
import torch

from hydra_model.procedural.motion import sample_motion
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.trajectories import (
    CAMERA_RADIUS,
    FAMILIES,
    choose_families,
    family_index,
    sample_trajectories,
)

WORLDS = 60
EPISODE = torch.arange(-76, 78, dtype=torch.float64) / 15
LONG_AGO = torch.arange(-60 * 15, 6 * 15, dtype=torch.float64) / 15


def sample(family):
    seeds = as_seeds(range(WORLDS))
    families = torch.full_like(seeds, family_index(family))
    return sample_trajectories(seeds, families, sample_motion(seeds))


@pytest.fixture(scope="module", params=FAMILIES)
def trajectories(request):
    return sample(request.param)


def yaw_of(poses):
    return torch.atan2(poses[..., 1, 2], poses[..., 0, 2])


def turned(yaw, reference):
    return (torch.remainder(yaw - reference + math.pi, 2 * math.pi) - math.pi).abs()


def test_poses_are_upright_optical_frames(trajectories):
    poses = trajectories.poses(EPISODE)
    assert poses.dtype == torch.float64
    rotation = poses[..., :3, :3]
    identity = rotation.transpose(-1, -2) @ rotation
    torch.testing.assert_close(identity, torch.eye(3).double().expand_as(identity))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones_like(rotation[..., 0, 0]))
    assert poses[..., 2, 1].max() < -0.9  # y points down
    assert rotation[..., 2, 0].abs().max() < 1e-12  # x is level
    assert rotation[..., 2, 2].abs().max() <= math.sin(math.radians(8)) + 1e-9


def test_cameras_stay_near_the_origin_at_head_height_at_all_times(trajectories):
    position = trajectories.poses(LONG_AGO)[..., :3, 3]
    assert position[..., :2].norm(dim=-1).max() < CAMERA_RADIUS
    assert position[..., 2].min() >= 1.2 and position[..., 2].max() <= 1.7
    assert torch.equal(position[:, 0, 2], position[:, -1, 2])


def test_cameras_move_smoothly(trajectories):
    poses = trajectories.poses(LONG_AGO)
    step = (poses[:, 1:, :3, 3] - poses[:, :-1, :3, 3]).norm(dim=-1)
    assert step.max() < 1.3 / 15  # metres in a frame
    turn = turned(yaw_of(poses)[:, 1:], yaw_of(poses)[:, :-1])
    assert turn.max() < math.radians(280) / 15


def test_a_look_away_leaves_and_is_back_during_the_target():
    trajectories = sample("look_away")
    yaw = yaw_of(trajectories.poses(EPISODE))
    away = turned(yaw, yaw[:, :1])
    assert away.amax(1).min() > math.radians(50)
    assert away[:, -1].max() < math.radians(10)
    back = EPISODE[(away > math.radians(10)).double().cumsum(1).argmax(1)]
    assert back.min() > 0
    left = EPISODE[(away > math.radians(10)).int().argmax(1)]
    assert (left < -3).double().mean() > 0.1 and (left > -1.5).double().mean() > 0.1


def test_a_full_turn_sees_every_direction():
    yaw = yaw_of(sample("full_turn").poses(LONG_AGO[-13 * 15 :]))
    assert all(torch.floor(world / (math.pi / 6)).unique().numel() == 12 for world in yaw)


def test_drives_go_forward_and_turn():
    poses = sample("drive").poses(EPISODE)
    step = (poses[:, 1:, :2, 3] - poses[:, :-1, :2, 3]) * 15
    forward = torch.nn.functional.normalize(poses[:, 1:, :2, 2], dim=-1)
    along = (step * forward).sum(-1)
    across = (step - along[..., None] * forward).norm(dim=-1)
    assert along.min() > -0.01 and along.max() <= 1.01 and along.max() > 0.8
    assert across.max() < 0.15  # the smoothing of the corners
    assert along.mean() > 0.15


def test_training_families_follow_their_weights():
    families = choose_families(as_seeds(range(10_000)))
    share = torch.bincount(families, minlength=len(FAMILIES)) / 10_000
    assert share[0] > 0.3 and share.min() > 0.03


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match=r"'spin'.*look_away"):
        family_index("spin")
