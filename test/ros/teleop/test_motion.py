# SPDX-License-Identifier: Apache-2.0
"""Velocities stay within the limits on speed and acceleration."""

import itertools

import numpy as np
import pytest

from hydra_ros.teleop.motion import (
    FORWARD,
    LEFT,
    TURN_LEFT,
    Limits,
    look_away,
    next_velocity,
    scaled,
)

LIMITS = Limits(
    linear_speed=1.0, angular_speed=2.0, linear_acceleration=2.0, angular_acceleration=4.0
)


def test_a_diagonal_is_no_faster_than_straight_on():
    velocity = scaled(FORWARD + LEFT + TURN_LEFT, 0.5, 0.8)
    assert np.linalg.norm(velocity[:3]) == pytest.approx(0.5)
    assert np.linalg.norm(velocity[3:]) == pytest.approx(0.8)


def test_the_target_is_approached_within_the_limit_and_reached_exactly():
    velocity, target = np.zeros(6), np.array([0.7, 0, 0, 0, 0, -1.1])
    steps = [velocity]
    for _ in range(10):
        velocity = next_velocity(velocity, target, LIMITS, 0.1)
        steps.append(velocity)
    for before, after in itertools.pairwise(steps):
        assert np.linalg.norm((after - before)[:3]) <= 2.0 * 0.1 + 1e-12
        assert np.linalg.norm((after - before)[3:]) <= 4.0 * 0.1 + 1e-12
    np.testing.assert_array_equal(velocity, target)
    np.testing.assert_allclose(steps[1], [0.2, 0, 0, 0, 0, -0.4])


def test_a_target_beyond_the_speed_limit_is_shortened_and_keeps_its_direction():
    velocity = next_velocity(np.zeros(6), np.array([3, 4, 0, 0, 0, 9.0]), LIMITS, 100.0)
    np.testing.assert_allclose(velocity, [0.6, 0.8, 0, 0, 0, 2.0])


def test_turning_round_goes_through_zero():
    velocity = np.array([1.0, 0, 0, 0, 0, 0])
    seen = []
    for _ in range(12):
        velocity = next_velocity(velocity, -FORWARD, LIMITS, 0.1)
        seen.append(velocity[0])
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == pytest.approx(-1.0)


def test_the_script_comes_back_to_where_it_began():
    turned = sum(look_away(seconds)[5] * 0.001 for seconds in np.arange(0, 8, 0.001))
    assert turned == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_array_equal(look_away(1.0), TURN_LEFT)
    np.testing.assert_array_equal(look_away(8.0 + 1.0), TURN_LEFT)
    assert not look_away(3.5).any()
