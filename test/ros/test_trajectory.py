# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from transforms3d.axangles import axangle2mat

from hydra_ros import trajectory

PERIOD = 1 / 15


def pose(x: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = axangle2mat([0, 0, 1], yaw)
    matrix[0, 3] = x
    return matrix


def yaw_of(matrix: np.ndarray) -> float:
    return math.atan2(matrix[1, 0], matrix[0, 0])


def test_slerp_goes_the_shorter_way_round_at_constant_speed():
    start, goal = pose(0, math.radians(170)), pose(2, math.radians(-170))
    middle = trajectory.slerp(start, goal, 0.5)
    assert abs(yaw_of(middle)) == pytest.approx(math.pi)
    assert middle[0, 3] == pytest.approx(1)
    quarter = trajectory.slerp(start, goal, 0.25)
    assert math.degrees(yaw_of(quarter)) == pytest.approx(175)


def test_slerp_ends_exactly():
    start, goal = pose(1, 0.3), pose(5, -2.0)
    np.testing.assert_array_equal(trajectory.slerp(start, goal, 0.0), start)
    np.testing.assert_array_equal(trajectory.slerp(start, goal, 1.0), goal)


def test_a_near_pose_is_reached_with_the_last_frame():
    poses = trajectory.approach(pose(), pose(0.1), 5, PERIOD, 2.0, 2.0)
    np.testing.assert_allclose(poses[:, 0, 3], [0.02, 0.04, 0.06, 0.08, 0.1])
    np.testing.assert_array_equal(poses[-1], pose(0.1))


def test_a_far_pose_is_approached_at_the_speed_limit():
    poses = trajectory.approach(pose(), pose(100), 15, PERIOD, 2.0, 2.0)
    assert poses[-1, 0, 3] == pytest.approx(2.0)
    turned = trajectory.approach(pose(), pose(yaw=3.0), 15, PERIOD, 2.0, 0.5)
    assert yaw_of(turned[-1]) == pytest.approx(0.5)


def test_waypoints_at_frame_times_are_the_frames_exactly():
    waypoints = np.stack([pose(i * 0.1, i * 0.05) for i in range(77)])
    times = np.round(np.arange(77) * PERIOD, 9)
    np.testing.assert_array_equal(trajectory.resample(waypoints, times, PERIOD), waypoints)


def test_stamps_rounded_to_milliseconds_give_the_same_frames():
    waypoints = np.stack([pose(i * 0.1) for i in range(77)])
    times = np.round(np.arange(77) * PERIOD, 3)
    np.testing.assert_array_equal(trajectory.resample(waypoints, times, PERIOD), waypoints)


def test_sparse_waypoints_are_interpolated_at_frame_times():
    waypoints = np.stack([pose(0), pose(2), pose(3)])
    poses = trajectory.resample(waypoints, np.array([5.0, 7.0, 8.0]), PERIOD)
    assert len(poses) == 46
    np.testing.assert_allclose(poses[:, 0, 3], np.arange(46) * PERIOD, atol=1e-9)


def test_dense_waypoints_are_thinned_to_frame_times():
    times = np.arange(1001) / 1000
    waypoints = np.stack([pose(t) for t in times])
    poses = trajectory.resample(waypoints, times, PERIOD)
    np.testing.assert_allclose(poses[:, 0, 3], np.arange(16) * PERIOD, atol=6e-4)


def test_a_path_that_ends_between_two_frames_ends_with_the_later_one():
    poses = trajectory.resample(np.stack([pose(0), pose(1)]), np.array([0.0, 0.1]), PERIOD)
    np.testing.assert_allclose(poses[:, 0, 3], [0, PERIOD / 0.1, 1])


def test_a_constant_twist_drives_a_circle():
    # 1 m/s and 1 rad/s: a circle of radius 1 m, closed after 2 pi seconds.
    count = 60
    poses = trajectory.drive(
        pose(), np.array([1.0, 0, 0]), np.array([0, 0, 1.0]), count, 2 * math.pi / count
    )
    centre = np.array([0.0, 1.0])
    np.testing.assert_allclose(np.linalg.norm(poses[:, :2, 3] - centre, axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(poses[-1], pose(), atol=1e-9)


def test_rotations_stay_orthonormal_over_an_hour_of_driving():
    pose_now = pose()
    angular = np.array([0.3, -0.7, 1.1])
    for _ in range(54):
        pose_now = trajectory.drive(pose_now, np.zeros(3), angular, 100, PERIOD)[-1]
    rotation = pose_now[:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("longest", [1, 17, 77])
def test_any_number_of_frames_is_split_exactly(longest):
    for frames in range(200):
        lengths = trajectory.chunk_lengths(frames, longest)
        assert sum(lengths) == frames
        assert all(length % 4 == 1 and length <= longest for length in lengths)


def test_a_full_chunk_stays_whole_and_a_longer_one_is_split_evenly():
    assert trajectory.chunk_lengths(77, 77) == [77]
    assert trajectory.chunk_lengths(154, 77) == [77, 77]
    assert trajectory.chunk_lengths(78, 77) == [41, 37]
