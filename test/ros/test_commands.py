# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Path

from hydra_ros.commands import CameraFrames, CommandError
from hydra_ros.conversions import body_to_optical, time_message

FRAMES = CameraFrames(world="map", body="camera_link", optical="camera_optical_frame")


def pose(frame: str = "map", x: float = 0.0, stamp: float = 0.0) -> PoseStamped:
    message = PoseStamped()
    message.header.frame_id = frame
    message.header.stamp = time_message(round(stamp * 1e9))
    message.pose.position.x = x
    return message


def path(*poses: PoseStamped, frame: str = "map") -> Path:
    message = Path(poses=list(poses))
    message.header.frame_id = frame
    return message


@pytest.mark.parametrize("frame", ["map", ""])
def test_a_pose_in_the_world_is_the_camera_bodys(frame):
    command = FRAMES.read_pose(pose(frame, x=2.0))
    assert not command.relative
    expected = body_to_optical(np.eye(4))
    expected[0, 3] = 2.0
    np.testing.assert_allclose(command.pose, expected)


def test_a_pose_in_the_world_may_be_the_optical_frames():
    frames = CameraFrames(
        world="map", body="camera_link", optical="camera_optical_frame", pose_convention="optical"
    )
    np.testing.assert_allclose(frames.read_pose(pose()).pose, np.eye(4))


def test_forward_is_x_for_the_body_and_z_for_the_optical_frame():
    body = FRAMES.read_pose(pose("camera_link", x=1.0))
    message = pose("camera_optical_frame")
    message.pose.position.z = 1.0
    optical = FRAMES.read_pose(message)
    assert body.relative and optical.relative
    np.testing.assert_allclose(body.pose[:3, 3], [0, 0, 1])
    np.testing.assert_allclose(optical.pose, body.pose)


def test_an_unknown_frame_is_refused_with_those_that_are_known():
    with pytest.raises(CommandError, match=r"'base_link' is unknown; use 'map'.*'camera_link'"):
        FRAMES.read_pose(pose("base_link"))


def test_a_path_without_timing_has_no_times():
    assert FRAMES.read_path(path(pose(), pose(x=1.0))).times is None
    assert FRAMES.read_path(path(pose(stamp=7), pose(stamp=7))).times is None


def test_a_timed_path_counts_from_its_first_stamp():
    command = FRAMES.read_path(path(pose(stamp=100.0), pose(stamp=100.5), pose(stamp=102.0)))
    np.testing.assert_allclose(command.times, [0, 0.5, 2.0])


def test_poses_of_a_path_are_in_its_frame_unless_they_name_their_own():
    command = FRAMES.read_path(path(pose(""), pose(""), frame="camera_link"))
    assert command.relative
    with pytest.raises(CommandError, match="mixes the frames"):
        FRAMES.read_path(path(pose(""), pose("camera_link")))


@pytest.mark.parametrize(
    ("stamps", "words"),
    [
        ((2.0, 1.0), "backwards"),
        ((1.0, 2.0, 2.0), "stand still"),
        ((1.0, 2.0, 0.0), r"0 s \(pose 2\) comes after 2 s"),
    ],
)
def test_a_path_whose_times_do_not_increase_is_refused(stamps, words):
    with pytest.raises(CommandError, match=words):
        FRAMES.read_path(path(*(pose(stamp=stamp) for stamp in stamps)))


def test_an_empty_path_is_refused():
    with pytest.raises(CommandError, match="no poses"):
        FRAMES.read_path(path())


def test_a_bad_pose_in_a_path_is_named():
    bad = pose()
    bad.pose.position.z = float("nan")
    with pytest.raises(CommandError, match="pose 1: position"):
        FRAMES.read_path(path(pose(), bad))


def test_a_twist_is_read_stamped_and_not_stamped():
    twist = Twist()
    twist.linear.x = 1.0
    twist.angular.z = 0.5
    plain = FRAMES.read_twist(twist)
    stamped = FRAMES.read_twist(TwistStamped(twist=twist))
    for command in (plain, stamped):
        np.testing.assert_allclose(command.linear, [0, 0, 1])  # forward
        np.testing.assert_allclose(command.angular, [0, -0.5, 0])  # left, about the down axis


def test_a_bad_twist_is_refused():
    twist = Twist()
    twist.angular.y = float("inf")
    with pytest.raises(CommandError, match="not finite"):
        FRAMES.read_twist(twist)
    twist.angular.y = 0.0
    twist.linear.x = -1e200
    with pytest.raises(CommandError, match=r"-1e\+200.* accepted: up to 1000000 m/s"):
        FRAMES.read_twist(twist)
    stamped = TwistStamped()
    stamped.header.frame_id = "map"
    with pytest.raises(CommandError, match="'map' is not accepted for a velocity"):
        FRAMES.read_twist(stamped)
