# SPDX-License-Identifier: Apache-2.0
"""Who drives, and what is published for it."""

import pytest

from hydra_ros.web.protocol import Velocity
from hydra_ros.web.wheel import PERIOD, SILENCE, Wheel

AHEAD = Velocity(linear=(1.0, 0.0, 0.0))
TURN = Velocity(angular=(0.0, 0.0, 1.0))
STILL = Velocity()


@pytest.fixture
def published() -> list[Velocity]:
    return []


@pytest.fixture
def wheel(published) -> Wheel:
    return Wheel(published.append)


def test_a_velocity_goes_out_at_once_is_repeated_and_ends_with_a_stop(wheel, published):
    wheel.turn("a", AHEAD, 0.0)
    assert published == [AHEAD]
    wheel.tick(PERIOD)
    wheel.turn("a", TURN, PERIOD + 0.01)
    wheel.turn("a", STILL, PERIOD + 0.02)
    assert published == [AHEAD, AHEAD, TURN, STILL]
    wheel.tick(1.0)
    assert published == [AHEAD, AHEAD, TURN, STILL]


def test_one_drives_at_a_time(wheel, published):
    assert wheel.turn("a", AHEAD, 0.0)
    assert not wheel.turn("b", TURN, 0.1)
    wheel.let_go("b")  # says nothing about a
    assert wheel.driver == "a"
    assert TURN not in published
    wheel.turn("a", STILL, 0.2)
    assert wheel.turn("b", TURN, 0.3)
    assert published == [AHEAD, STILL, TURN]


def test_one_that_fell_silent_or_left_is_stopped(wheel, published):
    wheel.turn("a", AHEAD, 0.0)
    wheel.tick(SILENCE + 0.01)
    assert published[-1] == STILL
    assert wheel.driver is None
    wheel.turn("b", AHEAD, 2.0)
    wheel.let_go("b")
    assert published[-1] == STILL


def test_in_lockstep_every_velocity_is_a_frame_so_none_only_stops(wheel, published):
    wheel.lockstep = True
    wheel.turn("a", AHEAD, 0.0)
    wheel.turn("a", TURN, 0.01)  # takes effect with the next tick
    for tick in range(1, 16):
        wheel.turn("a", TURN, tick * PERIOD)
        wheel.tick(tick * PERIOD)
    wheel.turn("a", STILL, 1.01)
    assert published == [AHEAD] + [TURN] * 15
