# SPDX-License-Identifier: Apache-2.0
"""Poses and odometry of any robot become a camera track at frame times."""

import numpy as np
import pytest
from ros.recording import robot_bags
from ros.recording.robot_bags import curve, mounted, pose_stamped, raised

from hydra_ros.conversions import body_to_optical
from hydra_ros.recording.bag import Bag, BagError
from hydra_ros.recording.tracks import read_track

TIMES = [i / 20 for i in range(41)]


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """The same drive in every form."""
    poses = [curve(time) for time in TIMES]
    folder = tmp_path_factory.mktemp("bags") / "robot"
    stamped = [pose_stamped(curve(time), time) for time in TIMES]
    backwards = [*stamped[:10], *stamped[5:20]]
    bad = [*stamped[:3], pose_stamped(curve(0.15), 0.15)]
    bad[-1].pose.orientation.w = 3.0
    messages = {
        "/odom": robot_bags.drive(2.0),
        "/pose": stamped,
        "/path": [robot_bags.path(poses[:5], TIMES[:5]), robot_bags.path(poses, TIMES)],
        "/once": stamped[:1],
        "/backwards": backwards,
        "/bad": bad,
        "/image": [robot_bags.image(np.zeros((4, 4, 3), np.uint8), 0.0)],
    }
    with Bag(robot_bags.write_bag(folder, messages)) as opened:
        yield opened


@pytest.mark.parametrize("topic", ["/odom", "/pose", "/path"])
def test_every_form_gives_the_poses_at_frame_times(bag, topic):
    track = read_track(bag, topic)
    frames = track.at_frames(15.0)
    assert len(frames) == 31
    # 20 poses a second and 15 frames a second meet five times a second.
    exact = body_to_optical(np.stack([curve(i / 5) for i in range(11)]))
    np.testing.assert_allclose(frames[::3], exact, atol=1e-9)
    between = body_to_optical(curve(1 / 15))
    np.testing.assert_allclose(frames[1], between, atol=1e-4)  # straight between two poses


def test_poses_of_an_optical_frame_stay_as_they_are(bag):
    track = read_track(bag, "/pose", optical=True)
    np.testing.assert_allclose(track.poses[10], curve(0.5), atol=1e-9)


def test_a_motion_can_begin_anywhere_and_stays_the_same_motion(bag):
    track = read_track(bag, "/odom")
    start = body_to_optical(curve(7.0))
    moved = track.moved_to(start)
    np.testing.assert_allclose(moved[0], start, atol=1e-12)
    for before, after in ((0, 10), (10, 40)):
        np.testing.assert_allclose(
            np.linalg.inv(moved[before]) @ moved[after],
            np.linalg.inv(track.poses[before]) @ track.poses[after],
            atol=1e-9,
        )


def test_stamps_that_do_not_increase_are_left_out_and_counted(bag):
    track = read_track(bag, "/backwards")
    assert track.skipped == 5
    assert (np.diff(track.times) > 0).all()
    np.testing.assert_allclose(track.poses, read_track(bag, "/pose").poses[:20], atol=1e-12)


@pytest.mark.parametrize(
    "topic, words",
    [
        ("/once", "1 poses; 2 are needed"),
        ("/bad", "pose 3: orientation has length"),
        ("/image", "sensor_msgs/msg/Image; accepted: geometry_msgs"),
        ("/nothing", "no topic '/nothing'"),
    ],
)
def test_what_is_no_track_is_refused_with_its_reason(bag, topic, words):
    with pytest.raises(BagError, match=words):
        read_track(bag, topic)


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """A robot with a camera off its centre, whose poses are given in several frames; its /tf."""
    poses = [pose_stamped(mounted(), time, "/base_link") for time in TIMES]
    # A second longer than the transforms.
    late = [pose_stamped(mounted(), time + 1.0, "base_link") for time in TIMES]
    ahead = [np.linalg.inv(curve(0.5)) @ curve(time) for time in TIMES]
    messages = {
        "/odom": robot_bags.drive(2.0),
        "/camera": poses,
        "/late": late,
        "/far": [pose_stamped(mounted(), time + 9.0, "base_link") for time in TIMES],
        "/mixed": [pose_stamped(curve(time), time, "map" if i % 2 else "odom")
                   for i, time in enumerate(TIMES)],
        "/plan": [robot_bags.path(ahead, TIMES, "base_link", at=0.5)],
        **robot_bags.transforms(2.0),
    }  # fmt: skip
    with Bag(robot_bags.write_bag(tmp_path_factory.mktemp("bags") / "robot", messages)) as opened:
        yield opened


@pytest.mark.parametrize("frame, above", [("odom", np.eye(4)), ("map", raised())])
def test_poses_in_a_moving_frame_are_brought_into_a_fixed_one(robot, frame, above):
    track = read_track(robot, "/camera", frame=frame)
    exact = np.stack([above @ curve(time) @ mounted() for time in TIMES])
    np.testing.assert_allclose(track.poses, body_to_optical(exact), atol=1e-9)


def test_a_path_in_a_moving_frame_is_placed_at_its_own_time(robot):
    track = read_track(robot, "/plan", frame="odom")
    exact = body_to_optical(np.stack([curve(time) for time in TIMES]))
    np.testing.assert_allclose(track.poses, exact, atol=1e-9)


def test_poses_in_several_frames_become_one_way(robot):
    track = read_track(robot, "/mixed", frame="map")
    heights = track.poses[:, 2, 3]
    np.testing.assert_allclose(heights, [3.5 if i % 2 == 0 else 0.5 for i in range(41)], atol=1e-9)


def test_poses_out_of_the_time_of_the_transforms_are_left_out_and_counted(robot):
    track = read_track(robot, "/late", frame="odom")
    assert (len(track.times), track.unplaced, track.skipped) == (21, 20, 0)
    np.testing.assert_allclose(track.poses[0], body_to_optical(curve(1.0) @ mounted()), atol=1e-9)


def test_a_frame_that_stands_still_can_be_vouched_for(robot):
    track = read_track(robot, "/camera", frame="base_link")
    np.testing.assert_allclose(track.poses[7], body_to_optical(mounted()), atol=1e-9)


@pytest.mark.parametrize(
    "topic, frame, words",
    [
        ("/camera", None, r"relative to 'base_link', which moves; .*have base_link, map, odom"),
        ("/plan", None, "relative to 'base_link', which moves"),
        ("/mixed", None, r"several frames \('map', 'odom'\)"),
        ("/camera", "earth", "do not lead from 'base_link' to 'earth'; they have base_link, map"),
        ("/far", "odom", "into 'odom' are of other times than the poses"),
    ],
)  # fmt: skip
def test_poses_that_are_no_way_through_one_world_are_refused(robot, topic, frame, words):
    with pytest.raises(BagError, match=words):
        read_track(robot, topic, frame=frame)


def test_a_frame_moves_where_odometry_says_so(tmp_path):
    messages = {
        "/odom": [robot_bags.odometry(curve(0.0), 0.0)],
        "/pose": [pose_stamped(mounted(), time, "chassis") for time in TIMES],
    }
    messages["/odom"][0].child_frame_id = "chassis"
    with (
        Bag(robot_bags.write_bag(tmp_path / "robot", messages)) as opened,
        pytest.raises(BagError, match=r"'chassis', which moves; .*the bag has no transforms"),
    ):
        read_track(opened, "/pose")
