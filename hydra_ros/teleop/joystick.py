# SPDX-License-Identifier: Apache-2.0
"""A joystick's axes and buttons -> a direction. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hydra_ros.teleop.motion import FORWARD, LEFT, TILT_DOWN, TURN_LEFT, UP
from hydra_ros.teleop.parameters import TeleopSettings


def without_dead_zone(value: float, dead_zone: float) -> float:
    """Return an axis (-1 to 1) that is zero within the dead zone and rises from its edge."""
    size = min(abs(value), 1.0)
    if not size > dead_zone:  # also where it is not a number
        return 0.0
    return float(np.sign(value)) * (size - dead_zone) / (1.0 - dead_zone)


def joystick_direction(
    axes: Sequence[float], buttons: Sequence[int], settings: TeleopSettings
) -> np.ndarray:
    """Return the direction [6] that a joystick is held to, zero without the enabling button.

    Positive axes are forward, left and up, as REP-103 and the driver ``joy`` have it.

    Raises:
        ValueError: the joystick lacks an axis or the button; the message names the parameter.
    """
    enable = settings.enable_button
    if enable >= len(buttons):
        raise ValueError(
            f"the joystick has {len(buttons)} buttons, no number {enable} (enable_button)"
        )
    direction = np.zeros(6)
    for name, unit in (
        ("axis_forward", FORWARD),
        ("axis_left", LEFT),
        ("axis_up", UP),
        ("axis_turn", TURN_LEFT),
        ("axis_tilt", -TILT_DOWN),
    ):
        number = getattr(settings, name)
        if number >= len(axes):
            raise ValueError(f"the joystick has {len(axes)} axes, no number {number} ({name})")
        if number >= 0:
            direction += unit * without_dead_zone(axes[number], settings.dead_zone)
    return direction if enable < 0 or buttons[enable] else np.zeros(6)
