# SPDX-License-Identifier: Apache-2.0
"""Bags that are written here are read by libraries that share no code with the writer."""

import numpy as np
import pytest
import yaml
from mcap_ros2.reader import read_ros2_messages
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import Reader
from std_msgs.msg import Header

from hydra_ros.conversions import image_message, time_message
from hydra_ros.msg import Memory, MemoryFrame
from hydra_ros.recording.bag import Bag
from hydra_ros.recording.writer import BagWriter

FRAMES = np.random.default_rng(0).integers(0, 256, (30, 48, 80, 3)).astype(np.uint8)
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bags") / "run"
    with BagWriter(folder) as writer:
        for number, frame in enumerate(FRAMES):
            stamp = 1700 * SECOND + number * SECOND // 15
            message = image_message(frame, Header(stamp=time_message(stamp), frame_id="camera"))
            data = serialize_message(message)
            writer.write("/camera/image_raw", "sensor_msgs/msg/Image", data, stamp)
        memory = Memory(chunk=7, policy="hybrid", frames=[MemoryFrame(index=3, score=0.5)])
        data = serialize_message(memory)
        writer.write("/memory", "hydra_ros/msg/Memory", data, 1702 * SECOND)
        assert writer.counts == {"/camera/image_raw": 30, "/memory": 1}
    return folder


def test_the_reader_of_foxglove_decodes_it_by_the_definitions_inside(bag):
    messages = list(read_ros2_messages(bag / "run_0.mcap"))
    images = [entry.ros_msg for entry in messages if entry.channel.topic == "/camera/image_raw"]
    shown = [np.frombuffer(image.data, np.uint8).reshape(48, 80, 3) for image in images]
    np.testing.assert_array_equal(shown, FRAMES)
    assert images[0].header.frame_id == "camera"
    (memory,) = [entry.ros_msg for entry in messages if entry.channel.topic == "/memory"]
    assert (memory.chunk, memory.policy, memory.frames[0].index) == (7, "hybrid", 3)


def test_it_is_a_bag_folder_of_rosbag2(bag):
    with Reader(bag) as reader:
        assert reader.message_count == 31
        assert reader.start_time == 1700 * SECOND
        assert {connection.topic: connection.msgcount for connection in reader.connections} == {
            "/camera/image_raw": 30,
            "/memory": 1,
        }
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["storage_identifier"] == "mcap"
    assert metadata["relative_file_paths"] == ["run_0.mcap"]


def test_without_messages_no_bag_is_left_behind(tmp_path):
    with BagWriter(tmp_path / "empty") as writer:
        assert writer.counts == {}
    assert not (tmp_path / "empty").exists()


def test_a_writer_that_was_killed_leaves_what_it_wrote(bag, tmp_path):
    file = tmp_path / "killed.mcap"
    # Its chunks are on disk, the index is not.
    writer = BagWriter(tmp_path / "run")
    data = serialize_message(image_message(np.tile(FRAMES[0], (8, 8, 1)), Header()))
    for number in range(30):
        writer.write("/camera/image_raw", "sensor_msgs/msg/Image", data, SECOND + number)
    file.write_bytes((tmp_path / "run" / "run_0.mcap").read_bytes())
    writer.close()
    with Bag(file) as opened:
        assert opened.recovered == len(list(opened.messages("/camera/image_raw"))) > 20


def test_a_folder_that_exists_is_not_written_into(bag):
    with pytest.raises(ValueError, match="exists already"):
        BagWriter(bag)


def test_frames_come_back_as_they_were(bag):
    from hydra_ros.recording.pictures import read_frames

    with Bag(bag) as opened:
        frames = [frame for _, frame in read_frames(opened, "/camera/image_raw")]
    np.testing.assert_array_equal(frames, FRAMES)
