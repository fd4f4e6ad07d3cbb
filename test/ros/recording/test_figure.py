# SPDX-License-Identifier: Apache-2.0
"""A recording becomes numbers, and those a picture."""

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import serialize_message
from ros.recording.robot_bags import curve
from std_msgs.msg import Header

from hydra_ros.conversions import image_message, pose_to_message, time_message
from hydra_ros.msg import Memory, MemoryFrame
from hydra_ros.recording.bag import Bag, BagError
from hydra_ros.recording.figure import draw
from hydra_ros.recording.story import read_story
from hydra_ros.recording.writer import BagWriter

SECOND = 1_000_000_000
FPS, COUNT = 15, 150
ZERO = 1_800_000_000 * SECOND + 123_456_789  # stamp of the first frame
WALL = 1_700_000_000 * SECOND


def status(factor: str) -> DiagnosticArray:
    values = [
        KeyValue(key="real_time_factor", value=factor),
        KeyValue(key="latency_s", value="0.250"),
    ]
    name = "/left/hydra_simulator: simulator"
    return DiagnosticArray(status=[DiagnosticStatus(name=name, values=values)])


def write_recording(folder, namespaces=("/left",)):
    """A recording of simulators, ten seconds of a curve, whose memory grows."""
    with BagWriter(folder) as writer:

        def write(topic: str, kind: str, message, seconds: float) -> None:
            data = serialize_message(message)
            writer.write(topic, kind, data, WALL + round(seconds * SECOND))

        for root in namespaces:
            for i in range(COUNT):
                stamp = time_message(ZERO + i * SECOND // FPS)
                header = Header(stamp=stamp, frame_id="map")
                pose = PoseStamped(header=header, pose=pose_to_message(curve(i / FPS)))
                write(f"{root}/camera/pose", "geometry_msgs/msg/PoseStamped", pose, i / FPS)
                picture = np.full((48, 80, 3), i, np.uint8)
                picture[10:30, i // 3 : i // 3 + 20] = (250, 120, 40)
                frame = image_message(picture, header)
                write(f"{root}/camera/image_raw", "sensor_msgs/msg/Image", frame, i / FPS)
            for chunk in range(10):
                remembered = [
                    MemoryFrame(index=index, selected=index % 2 == 0, score=index / 50)
                    for index in range(5 * chunk)
                ]
                memory = Memory(chunk=chunk, memory_frames=5 * chunk, frames=remembered)
                memory.header.stamp = time_message(ZERO + chunk * SECOND)
                write(f"{root}/memory", "hydra_ros/msg/Memory", memory, float(chunk))
        for second in range(10):
            factor = "unknown" if second == 0 else f"{1.0 + 0.1 * second:.2f}"
            kind = "diagnostic_msgs/msg/DiagnosticArray"
            write("/diagnostics", kind, status(factor), float(second))
    return folder


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    folder = write_recording(tmp_path_factory.mktemp("bags") / "run")
    with Bag(folder) as bag:
        return read_story(bag)


def test_the_way_has_a_pose_for_every_frame(story):
    assert story.namespace == "/left"
    np.testing.assert_allclose(story.times, np.arange(COUNT) / FPS, atol=1e-6)
    np.testing.assert_allclose(story.poses[75], curve(5.0), atol=1e-9)


def test_thumbnails_are_the_frames_of_their_moments(story):
    assert [index for index, _ in story.thumbnails] == [0, 21, 43, 64, 85, 106, 128, 149]
    for index, frame in story.thumbnails:
        assert frame[0, 0, 0] == index


def test_speed_comes_from_the_diagnostics_of_this_simulator(story):
    times, factor, latency = story.diagnostics.T
    np.testing.assert_allclose(times, np.arange(10), atol=1e-6)
    assert np.isnan(factor[0])  # unknown at first
    np.testing.assert_allclose(factor[1:], 1.0 + 0.1 * np.arange(1, 10))
    assert set(latency) == {0.25}


def test_memory_says_what_each_chunk_selected(story):
    assert [chunk.size for chunk in story.memory] == list(range(0, 50, 5))
    last = story.memory[-1]
    assert last.time == pytest.approx(9.0)
    np.testing.assert_array_equal(last.selected, np.arange(0, 45, 2))
    np.testing.assert_allclose(last.scores, last.selected / 50, atol=1e-6)


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_a_picture_is_drawn(story, tmp_path, ending):
    path = tmp_path / f"run{ending}"
    draw(story, path, "run")
    if ending == ".png":
        picture = cv2.imread(str(path))
        assert picture.shape[0] > 800 and picture.shape[1] > 1000
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500  # not empty
    else:
        assert "<svg" in path.read_text()


def test_two_simulators_in_one_recording_need_a_name(tmp_path):
    folder = write_recording(tmp_path / "run", ("/left", "/right"))
    with Bag(folder) as bag:
        with pytest.raises(BagError, match="give --namespace: /left, /right"):
            read_story(bag)
        assert len(read_story(bag, "/right").times) == COUNT


def test_a_bag_of_something_else_is_refused(tmp_path):
    with BagWriter(tmp_path / "other") as writer:
        writer.write("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray",
                     serialize_message(DiagnosticArray()), 1)  # fmt: skip
    with Bag(tmp_path / "other") as bag, pytest.raises(BagError, match="its topics: /diagnostics"):
        read_story(bag)
