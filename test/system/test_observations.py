# SPDX-License-Identifier: Apache-2.0
"""Real images over DDS: into the memory at their poses, and refused where they cannot be."""

import math
import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from system.simulator import path_message, pose_message, wait_until

import small_models
from hydra_ros import conversions
from hydra_ros.client import SimulatorClient
from hydra_ros.msg import Memory, MemoryFrame

PERIOD = 1 / 15


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    small_models.write_model(folder)
    return folder


@pytest.fixture(scope="module")
def simulator(start_simulator, model):
    with start_simulator(
        "/observations",
        model=model,
        playback_speed=0.0,
        observation_wait=0.5,
        memory_policy="recent",
    ) as started:
        wait_until(lambda: started.client.diagnostics.get("state") == "running", "running world")
        started.robot = Robot(started.client)
        yield started


@pytest.fixture
def robot(simulator):
    client = simulator.client
    response = client.reset("procedural", seed=3)
    assert response.success, response.message
    simulator.robot.start = conversions.pose_from_message(response.start_pose.pose)
    simulator.robot.accepted.clear()
    simulator.robot.stamp = time.time() - 30.0  # a new recording
    return simulator.robot


class Robot:
    """A camera that drives: images, poses and camera_info under stamps of its own."""

    def __init__(self, client) -> None:
        self.client = client
        self.images = client.publisher(Image, "observation/image")
        self.jpegs = client.publisher(CompressedImage, "observation/image/compressed")
        self.poses = client.publisher(PoseStamped, "observation/pose")
        self.accepted = client.listen(PoseStamped, "observation/accepted")
        self.start = np.eye(4)
        self.stamp = 0.0

    def header(self, later: float = 1.0, frame: str = "robot_camera") -> Header:
        self.stamp += later
        stamp = conversions.time_message(round(self.stamp * 1e9))
        return Header(stamp=stamp, frame_id=frame)

    def look(self, forward: float, header: Header | None = None, size=(48, 80)) -> Header:
        """See a picture from so many metres in front of the start."""
        header = header or self.header()
        self.images.publish(picture(header, size))
        self.locate(forward, header)
        return header

    def locate(self, forward: float, header: Header) -> None:
        body = self.start.copy()
        body[:3, 3] += forward * body[:3, 0]
        message = pose_message(body)
        message.header.stamp = header.stamp
        self.poses.publish(message)


def picture(header: Header, size=(48, 80), encoding: str = "rgb8") -> Image:
    height, width = size
    frame = np.full((height, width, 3), 90, np.uint8)
    frame[: height // 2] = (60, 120, 250)
    message = conversions.image_message(frame, header)
    message.encoding = encoding
    return message


def count(client, key: str) -> int:
    client.diagnostics = {}
    wait_until(lambda: client.diagnostics, "diagnostics")
    return int(client.diagnostics[key])


def test_the_next_chunk_goes_on_from_where_the_robot_looked(robot):
    client = robot.client
    before = count(client, "memory_latent_frames")
    taken = count(client, "observations_taken")
    robot.look(2.0)
    wait_until(lambda: robot.accepted, "accepted observation")
    assert count(client, "memory_latent_frames") == before + 1
    assert count(client, "observations_taken") == taken + 1
    assert not client.images  # an observation is not published: its sender has it
    accepted = conversions.pose_from_message(robot.accepted[0].pose)
    step = np.eye(4)
    step[0, 3] = 0.1
    client.path_cmd.publish(path_message([step] * 5, "camera_link"))
    client.wait_frames(5)
    shown = np.linalg.inv(robot.start) @ client.shown_poses()[0]
    np.testing.assert_allclose(shown[:3, 3], [2.1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.inv(accepted) @ client.shown_poses()[0], step, atol=1e-6)


def test_an_observation_changes_what_is_predicted(robot):
    client = robot.client

    def predicted(look: bool) -> bytes:
        assert client.reset("procedural", seed=3).success
        if look:
            robot.accepted.clear()
            robot.look(0.0)
            wait_until(lambda: robot.accepted, "accepted observation")
        client.path_cmd.publish(path_message([robot.start] * 5))
        return client.wait_frames(5).tobytes()

    assert predicted(look=True) != predicted(look=False)


def test_a_program_shows_what_its_camera_saw(robot):
    with SimulatorClient("/observations") as client:
        start = client.reset("procedural", seed=3).pose
        for leg in range(2):
            before = count(robot.client, "memory_latent_frames")
            poses = np.tile(start, (9, 1, 1))
            poses[:, :3, 3] += 0.1 * (9 * leg + np.arange(1, 10))[:, None] * start[:3, 0]
            frames = np.full((9, 48, 80, 3), 90 + leg, np.uint8)
            end = client.observe(frames, poses)
            np.testing.assert_allclose(end, poses[-1], atol=1e-6)
            # One clip, as the stamps of both calls follow each other.
            assert count(robot.client, "memory_latent_frames") == before + 3
        assert not robot.client.images
        (future,) = client.imagine([np.tile(np.eye(4), (2, 1, 1))], relative=True)
        np.testing.assert_allclose(future.poses[0], poses[-1], atol=1e-6)  # goes on from there


def test_frames_that_cannot_be_observed_are_refused_by_the_client(robot):
    with SimulatorClient("/observations") as client:
        frames, poses = np.zeros((2, 48, 80, 3), np.uint8), np.tile(np.eye(4), (2, 1, 1))
        with pytest.raises(ValueError, match="accepted: uint8"):
            client.observe(frames.astype(np.float32), poses)
        with pytest.raises(ValueError, match="1 frames and 2 poses"):
            client.observe(frames[:1], poses)
        client.observe(frames, poses)  # the simulator is found, however long that takes
        with pytest.raises(TimeoutError, match="0 of 2 frames were remembered"):
            client.observe(np.zeros((2, 48, 10, 3), np.uint8), poses, timeout=2.0)


def test_a_stream_at_the_frame_rate_is_remembered_as_clips(robot):
    before = count(robot.client, "memory_latent_frames")
    for i in range(9):
        robot.look(0.1 * i, robot.header(PERIOD))
    wait_until(lambda: len(robot.accepted) == 9, "accepted observations")
    # Nine frames are one clip of 1 + 2 latent frames, or two where the machine was slow.
    assert before + 3 <= count(robot.client, "memory_latent_frames") < before + 9
    stamps = [conversions.time_to_nanoseconds(pose.header.stamp) for pose in robot.accepted]
    assert stamps == sorted(stamps)


def test_faster_streams_are_thinned_to_the_frame_rate(robot):
    skipped = count(robot.client, "observations_skipped")
    for i in range(10):
        robot.look(0.1 * i, robot.header(PERIOD / 2))
    wait_until(lambda: len(robot.accepted) == 5, "accepted observations")
    assert count(robot.client, "observations_skipped") == skipped + 5


def test_time_moves_on_by_the_stamps(robot):
    robot.look(0.0)
    robot.look(0.1, robot.header(4.0))
    wait_until(lambda: len(robot.accepted) == 2, "accepted observations")
    robot.client.diagnostics = {}
    wait_until(lambda: robot.client.diagnostics, "diagnostics")
    simulated = float(robot.client.diagnostics["simulated_time_s"])
    assert simulated == pytest.approx(PERIOD + 4.0, abs=2e-3)


def test_memory_says_which_frames_were_observed(robot):
    messages = robot.client.listen(Memory, "memory")
    robot.look(1.0)
    wait_until(lambda: robot.accepted, "accepted observation")

    def chunk() -> bool:
        robot.client.path_cmd.publish(path_message([robot.start]))
        time.sleep(0.1)
        return bool(messages)

    wait_until(chunk, "message")
    first = messages[0].frames
    assert {frame.origin for frame in first} <= {MemoryFrame.OBSERVED, MemoryFrame.IMAGINED}
    assert max(frame.index for frame in first if frame.origin == MemoryFrame.OBSERVED) >= 5


def test_a_pose_may_come_before_its_image(robot):
    header = robot.header()
    robot.locate(0.5, header)
    time.sleep(0.2)  # so that it does come first
    robot.images.publish(picture(header))
    wait_until(lambda: robot.accepted, "accepted observation")


def test_jpegs_are_observations_too(robot):
    header = robot.header()
    frame = conversions.image_from_message(picture(header))
    robot.jpegs.publish(conversions.compressed_image_message(frame, header, 90))
    robot.locate(0.5, header)
    wait_until(lambda: robot.accepted, "accepted observation")


# --- Bad input ---


def far_from_now(robot, seconds: float) -> Header:
    stamp = conversions.time_message(round((time.time() + seconds) * 1e9))
    return Header(stamp=stamp, frame_id="robot_camera")


def without_pose(robot) -> None:
    robot.images.publish(picture(robot.header()))


def without_stamp(robot) -> None:
    robot.images.publish(picture(Header()))


def pose_in_the_future(robot) -> None:
    robot.locate(0.0, far_from_now(robot, 20.0))


def image_in_the_future(robot) -> None:
    robot.images.publish(picture(far_from_now(robot, 30.0)))


def older_image(robot) -> None:
    robot.images.publish(picture(robot.header(-100.0)))
    robot.stamp += 100.0


def small_image(robot) -> None:
    robot.look(0.0, size=(24, 40))


def square_image(robot) -> None:
    robot.look(0.0, size=(80, 80))


def depth_image(robot) -> None:
    header = robot.header()
    robot.images.publish(picture(header, encoding="32FC1"))
    robot.locate(0.0, header)


def cut_image(robot) -> None:
    header = robot.header()
    message = picture(header)
    message.height = 96
    robot.images.publish(message)
    robot.locate(0.0, header)


def relative_pose(robot) -> None:
    robot.poses.publish(pose_message(np.eye(4), "camera_link", stamp=robot.stamp))


def broken_pose(robot) -> None:
    message = pose_message(np.eye(4), stamp=robot.stamp)
    message.pose.orientation.w = 0.0
    robot.poses.publish(message)


BAD_OBSERVATIONS = {
    without_pose: "has no pose: ",
    without_stamp: "the header has no stamp",
    pose_in_the_future: "observation/pose refused: the stamp",
    image_in_the_future: "observation/image refused: the stamp",
    older_image: "is older than the last one",
    small_image: "the image is 40x24, too small",
    square_image: "the image is 80x80, of another shape",
    depth_image: "image encoding is '32FC1'; accepted: rgb8, bgr8, rgba8, bgra8, mono8",
    cut_image: "image data is cut short",
    relative_pose: "is the camera's own; a pose of an observation must be in 'map'",
    broken_pose: "orientation is the zero quaternion",
}


def test_bad_observations_are_refused_with_a_message_each_and_change_nothing(robot, simulator):
    client, process = robot.client, simulator.process
    robot.look(0.0)
    wait_until(lambda: robot.accepted, "accepted observation")
    before, refused = count(client, "memory_latent_frames"), count(client, "observations_refused")
    for observe, words in BAD_OBSERVATIONS.items():
        since = len(process.log)
        observe(robot)
        wait_until(lambda words=words, since=since: process.logged(words, since), repr(words))
    assert count(client, "memory_latent_frames") == before
    assert count(client, "observations_refused") == refused + len(BAD_OBSERVATIONS)
    assert len(robot.accepted) == 1
    robot.look(0.2)
    wait_until(lambda: len(robot.accepted) == 2, "accepted observation")


def test_a_wider_camera_is_cropped_and_a_narrower_one_refused(robot, simulator):
    infos = robot.client.publisher(CameraInfo, "observation/camera_info")

    def info(degrees: float) -> None:
        header = Header(frame_id="robot_camera")
        infos.publish(conversions.camera_info_message(480, 640, math.radians(degrees), header))
        robot.look(0.0, size=(480, 640))

    def wide() -> bool:
        info(100.0)
        time.sleep(0.1)
        return bool(robot.accepted)

    wait_until(wide, "accepted observation")
    since = len(simulator.process.log)
    words = "the camera sees 50.0x38.6 degrees, less than the 70.0x45.6 degrees"

    def narrow() -> bool:
        info(50.0)
        time.sleep(0.1)
        return bool(simulator.process.logged(words, since))

    wait_until(narrow, "refusal")
    robot.client.remove(infos)


def test_an_inactive_simulator_refuses_observations(start_simulator, model):
    with start_simulator("/asleep", model=model, autostart=False) as started:
        robot = Robot(started.client)
        robot.stamp = time.time() - 30.0
        words = "observation/image refused: the simulator is not active"

        def refused() -> bool:
            # Again and again: what is sent before both sides know each other is lost.
            robot.look(0.0, robot.header(PERIOD))
            time.sleep(0.1)
            return bool(started.process.logged(words))

        wait_until(refused, "refusal")


def test_in_realtime_the_camera_goes_on_from_the_observation(start_simulator, model):
    with start_simulator("/seeing", model=model, mode="realtime") as started:
        client, robot = started.client, Robot(started.client)
        wait_until(lambda: client.poses, "frame", 120)
        robot.start = conversions.pose_from_message(client.poses[-1].pose)
        robot.stamp = time.time() - 30.0

        def accepted() -> bool:
            robot.look(3.0, robot.header(PERIOD))
            time.sleep(0.1)
            return bool(robot.accepted)

        wait_until(accepted, "accepted observation")

        def there() -> bool:
            shown = conversions.pose_from_message(client.poses[-1].pose)
            return abs((np.linalg.inv(robot.start) @ shown)[0, 3] - 3.0) < 1e-6

        wait_until(there, "camera at the observed pose")
