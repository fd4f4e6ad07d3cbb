# SPDX-License-Identifier: Apache-2.0
"""Bags are read whatever wrote them; what is wrong with one is said in one line."""

import shutil

import numpy as np
import pytest
from ros.recording import robot_bags

from hydra_ros.conversions import body_to_optical
from hydra_ros.recording.bag import Bag, BagError
from hydra_ros.recording.tracks import read_track

ODOMETRY = ("nav_msgs/msg/Odometry",)
POSE = "geometry_msgs/msg/PoseStamped"


@pytest.fixture(scope="module", params=[False, True], ids=["sqlite3", "mcap"])
def bag(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags") / "robot"
    messages = {"/odom": robot_bags.drive(2.0)}
    return robot_bags.write_bag(folder, messages, mcap=request.param)


def test_messages_come_with_their_fields_and_times(bag):
    with Bag(bag) as opened:
        assert opened.topics == {"/odom": ODOMETRY[0]}
        messages = list(opened.messages("/odom", ODOMETRY))
    assert len(messages) == 41
    stamp, message = messages[20]
    assert stamp == (robot_bags.START + 1) * 10**9
    assert message.pose.pose.position.x == pytest.approx(5.3)


def test_a_file_alone_is_a_bag_too(bag):
    (file,) = [path for path in bag.iterdir() if path.suffix in (".mcap", ".db3")]
    with Bag(file) as opened:
        assert len(list(opened.messages("/odom"))) == 41


def test_a_missing_topic_lists_those_that_exist_with_their_types(bag):
    with (
        Bag(bag) as opened,
        pytest.raises(BagError, match=r"no topic '/imu'; it has /odom \(nav_msgs/msg/Odometry\)"),
    ):
        list(opened.messages("/imu"))


def test_another_type_is_named_with_those_accepted(bag):
    with Bag(bag) as opened, pytest.raises(BagError, match="Odometry; accepted: sensor_msgs"):
        list(opened.messages("/odom", ("sensor_msgs/msg/Image",)))


def test_an_mcap_file_that_was_cut_short_is_read_as_far_as_it_goes(tmp_path):
    # Chunks of a size that several fit, as a recorder writes them.
    messages = {"/odom": robot_bags.drive(60.0, 50.0)}
    bag = robot_bags.write_bag(tmp_path / "robot", messages, mcap=True)
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 3])
    with Bag(bag) as opened:
        assert opened.recovered == len(list(opened.messages("/odom")))
        assert 0 < opened.recovered < 3001


def test_an_mcap_file_with_no_whole_message_is_called_cut_short(tmp_path):
    bag = robot_bags.write_bag(tmp_path / "robot", {"/odom": robot_bags.drive(1.0)}, mcap=True)
    (file,) = bag.glob("*.mcap")
    short = tmp_path / "short.mcap"
    short.write_bytes(file.read_bytes()[:20])
    with pytest.raises(BagError, match=r"short\.mcap was cut short"):
        Bag(short)


def test_a_folder_whose_metadata_was_not_written_is_read(bag, tmp_path):
    copy = shutil.copytree(bag, tmp_path / "robot")
    (copy / "metadata.yaml").unlink()
    with Bag(copy) as opened:
        assert len(list(opened.messages("/odom"))) == 41


def broken(folder, name: str):
    """Make something that is no bag."""
    target = folder / name
    if name == "folder":
        target.mkdir()
    elif name != "nowhere":
        target.write_bytes(b"this is no bag" * 10)
    return target


@pytest.mark.parametrize("name", ["nowhere", "folder", "text.txt", "a.mcap", "a.db3", "a.bag"])
def test_what_is_no_bag_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(BagError, match=name) as refused:
        Bag(broken(tmp_path, name))
    assert "\n" not in str(refused.value)


def test_a_bag_of_ros_1_is_read_too(tmp_path):
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    path = tmp_path / "old.bag"
    with Writer(path) as writer:
        connection = writer.add_connection("/pose", POSE, typestore=store)
        for number in range(5):
            stamp = types["builtin_interfaces/msg/Time"](sec=100 + number, nanosec=0)
            message = types[POSE](
                header=types["std_msgs/msg/Header"](seq=number, stamp=stamp, frame_id="odom"),
                pose=robot_bags.pose(robot_bags.curve(float(number))),
            )
            data = store.serialize_ros1(message, POSE)
            writer.write(connection, (100 + number) * 10**9, data)
    with Bag(path) as opened:
        track = read_track(opened, "/pose")
    np.testing.assert_allclose(track.times, [100, 101, 102, 103, 104])
    np.testing.assert_allclose(track.poses[3], body_to_optical(robot_bags.curve(3.0)), atol=1e-9)
