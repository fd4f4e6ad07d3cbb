# SPDX-License-Identifier: Apache-2.0
"""A joystick's axes and buttons become a direction."""

import dataclasses
import math

import numpy as np
import pytest

from hydra_ros.teleop.joystick import joystick_direction, without_dead_zone
from hydra_ros.teleop.motion import FORWARD, LEFT, TURN_LEFT
from hydra_ros.teleop.parameters import TeleopSettings

SETTINGS = TeleopSettings(dead_zone=0.1, enable_button=2)
PRESSED, RELEASED = [0, 0, 1], [0, 0, 0]


def test_axes_are_forward_left_and_turning():
    direction = joystick_direction([1.0, 1.0, 0, 1.0, 0], PRESSED, SETTINGS)
    np.testing.assert_allclose(direction, FORWARD + LEFT + TURN_LEFT)


def test_nothing_moves_unless_the_button_is_held():
    assert not joystick_direction([1.0] * 5, RELEASED, SETTINGS).any()


def test_no_button_is_needed_where_none_is_configured():
    settings = dataclasses.replace(SETTINGS, enable_button=-1)
    assert joystick_direction([0, 1.0, 0, 0, 0], [], settings)[0] == 1.0


@pytest.mark.parametrize(
    "value, result",
    [(0.05, 0.0), (-0.1, 0.0), (1.0, 1.0), (-1.0, -1.0), (0.55, 0.5), (7.0, 1.0), (math.nan, 0.0)],
)
def test_the_dead_zone_is_left_without_a_jump(value, result):
    assert without_dead_zone(value, 0.1) == pytest.approx(result)


@pytest.mark.parametrize(
    "axes, buttons, name", [([0.0] * 3, PRESSED, "axis_turn"), ([0.0] * 5, [1], "enable_button")]
)
def test_a_joystick_that_lacks_something_is_told_by_the_parameter(axes, buttons, name):
    with pytest.raises(ValueError, match=name):
        joystick_direction(axes, buttons, SETTINGS)
