# SPDX-License-Identifier: Apache-2.0
"""Paths of imagined futures."""

import math

import numpy as np

from hydra_ros.commands import CameraFrames
from hydra_ros.web.paths import driven_poses, relative_path
from hydra_ros.web.protocol import Velocity


def test_a_turn_ends_where_the_angle_says_and_does_not_move():
    times, poses = driven_poses(Velocity(angular=(0.0, 0.0, 0.5)), 2.0)
    assert times[-1] == 2.0
    np.testing.assert_allclose(poses[:, :3, 3], 0.0)
    heading = math.atan2(poses[-1, 1, 0], poses[-1, 0, 0])
    assert math.isclose(heading, 1.0, abs_tol=1e-9)  # to the left


def test_a_curve_is_an_arc_of_a_circle():
    _, poses = driven_poses(Velocity(linear=(1.0, 0.0, 0.0), angular=(0.0, 0.0, 1.0)), math.pi)
    np.testing.assert_allclose(poses[-1, :3, 3], [0.0, 2.0, 0.0], atol=2e-3)


def test_the_simulator_takes_the_message_as_a_timed_path_relative_to_the_camera():
    velocity = Velocity(linear=(0.5, 0.0, 0.0))
    frames = CameraFrames(world="map", body="camera_link", optical="camera_optical_frame")
    command = frames.read_path(relative_path(velocity, 1.5, "camera_link"))
    assert command.relative
    assert math.isclose(command.times[-1], 1.5)
    # In the optical frame's axes: forward is z.
    np.testing.assert_allclose(command.poses[-1][:3, 3], [0.0, 0.0, 0.75], atol=1e-9)
