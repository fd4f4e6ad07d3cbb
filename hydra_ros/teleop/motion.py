# SPDX-License-Identifier: Apache-2.0
"""Velocities of the camera body and the limits on them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hydra_ros.trajectory import limited

# Directions in the axes of the camera body (x forward, y left, z up): linear, then angular.
FORWARD, LEFT, UP, ROLL, TILT_DOWN, TURN_LEFT = np.eye(6)

_LOOK_AWAY = (3.0, 1.0, 3.0, 1.0)  # seconds of turning left, standing, turning back, standing


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Most speed (m/s, rad/s) and acceleration (m/s², rad/s²)."""

    linear_speed: float
    angular_speed: float
    linear_acceleration: float
    angular_acceleration: float


def scaled(direction: np.ndarray, linear_speed: float, angular_speed: float) -> np.ndarray:
    """Return the velocity [6] of a direction [6] with entries from -1 to 1.

    No combination of directions is faster than the speeds, in m/s and rad/s.
    """
    linear = limited(direction[:3], 1.0) * linear_speed
    angular = limited(direction[3:], 1.0) * angular_speed
    return np.concatenate([linear, angular])


def next_velocity(
    velocity: np.ndarray, target: np.ndarray, limits: Limits, seconds: float
) -> np.ndarray:
    """Return the velocity [6] after so many seconds on the way to a target velocity [6].

    The target is taken within the limits on speed; it is reached exactly, never passed.
    """
    linear = limited(target[:3], limits.linear_speed)
    angular = limited(target[3:], limits.angular_speed)
    linear = velocity[:3] + limited(linear - velocity[:3], limits.linear_acceleration * seconds)
    angular = velocity[3:] + limited(angular - velocity[3:], limits.angular_acceleration * seconds)
    return np.concatenate([linear, angular])


def look_away(seconds: float) -> np.ndarray:
    """Return the direction [6] of the script at a time: turn away, wait, come back, wait."""
    left, away, back, there = np.cumsum(_LOOK_AWAY)
    within = seconds % there
    if within < left:
        return TURN_LEFT.copy()
    if away <= within < back:
        return -TURN_LEFT
    return np.zeros(6)
