# SPDX-License-Identifier: Apache-2.0
"""Subjects walk predictably, at walking speed, clear of the camera and of the blocks."""

import pytest
import torch

from hydra_model.procedural.motion import (
    CIRCLE,
    FARTHEST,
    MOTION_WEIGHTS,
    NEAREST,
    RICH,
    RICH_WEIGHTS,
    STRAIGHT,
    STYLES,
    TO_AND_FRO,
    TURNING_RADIUS,
    WAYPOINTS,
    sample_motion,
)
from hydra_model.procedural.random import as_seeds

SPAN = torch.linspace(-6, 6, 241, dtype=torch.float64)
LONG_AGO = torch.linspace(-60, 6, 1321, dtype=torch.float64)


@pytest.fixture(scope="module", params=STYLES)
def style(request):
    return request.param


@pytest.fixture(scope="module")
def motion(style):
    return sample_motion(as_seeds(range(400)), style)


def of_kind(motion, kind):
    return motion.active & (motion.kind == kind)


def test_kinds_come_in_their_shares(motion, style):
    weights = RICH_WEIGHTS if style == RICH else MOTION_WEIGHTS
    share = torch.bincount(motion.kind.flatten(), minlength=len(weights)) / motion.kind.numel()
    assert torch.allclose(share.double(), torch.tensor(weights).double(), atol=0.06)


def test_velocity_is_the_derivative_of_position(motion):
    step = 1e-5
    ahead = (motion.position(SPAN + step) - motion.position(SPAN - step)) / (2 * step)
    _, velocity = motion.state(SPAN)
    # At the very moment of a turn there is no derivative.
    off = ((ahead - velocity).norm(dim=-1) > 1e-6).double().mean()
    assert off < 1e-4


def test_speed_is_a_walking_pace(motion):
    _, velocity = motion.state(LONG_AGO)
    speed = velocity.norm(dim=-1)
    assert speed.min() >= 0.3 - 1e-9 and speed.max() <= 1.0 + 1e-9


def test_straight_walkers_are_extrapolated_exactly_and_others_are_not(motion):
    times = SPAN[None].expand(len(motion), -1)
    guess = motion.extrapolate(torch.full((len(motion),), -5.0).double(), times)
    error = (guess - motion.position(times)).norm(dim=-1).amax(1)
    assert error[of_kind(motion, STRAIGHT)].max() < 1e-9
    assert error[of_kind(motion, CIRCLE)].min() > 0.5
    assert error[of_kind(motion, TO_AND_FRO)].min() > 0.5
    if of_kind(motion, WAYPOINTS).any():
        assert error[of_kind(motion, WAYPOINTS)].median() > 0.5


def test_circles_waypoints_and_to_and_fro_repeat(motion):
    period = torch.where(
        motion.kind == CIRCLE,
        2 * torch.pi * motion.extent / motion.speed,
        4 * motion.extent / motion.speed,
    )
    period = torch.where(motion.kind == WAYPOINTS, motion.extent / motion.speed, period)
    for subject in range(3):
        now = motion.position(SPAN)[:, :, subject]
        later = motion.position(SPAN + period[:, subject, None])[:, :, subject]
        assert torch.allclose(now, later, atol=1e-9)


def test_walkers_reach_every_waypoint_and_walk_straight_between():
    motion = sample_motion(as_seeds(range(60)), RICH)
    world, subject = of_kind(motion, WAYPOINTS).nonzero().unbind(1)
    own = motion[world]
    times = torch.linspace(-50, 0, 4001, dtype=torch.float64)
    position, velocity = (v[torch.arange(len(world)), :, subject] for v in own.state(times))
    places = own.centre[:, :, None] + own.waypoints
    places = places[torch.arange(len(world)), subject]  # [K, W, 2]
    nearest = (position[:, :, None] - places[:, None]).norm(dim=-1).amin(1)
    assert nearest.max() < 0.02
    turns = ((velocity[:, 1:] - velocity[:, :-1]).norm(dim=-1) > 1e-6).double().mean()
    assert 0 < turns < 0.01


def test_subjects_stay_around_the_camera_and_leave_it_room(motion):
    distance = motion.position(SPAN).norm(dim=-1)
    assert distance.min() > NEAREST - 1e-6
    assert distance.max() < FARTHEST + 1e-6
    ever = motion.position(LONG_AGO).norm(dim=-1)
    assert ever.min() > NEAREST - 1e-6 and ever.max() < TURNING_RADIUS + 1e-6


def test_subjects_seldom_meet(motion):
    position = motion.position(SPAN)
    apart = (position[:, :, :, None] - position[:, :, None]).norm(dim=-1).amin(1)
    both = motion.active[:, :, None] & motion.active[:, None]
    pairs = apart[both & torch.ones(3, 3, dtype=torch.bool).triu(1)]
    assert (pairs < 0.7).double().mean() < 0.02
