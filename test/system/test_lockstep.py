# SPDX-License-Identifier: Apache-2.0
"""The node in lockstep, driven over DDS: every commanded pose becomes one frame, exactly."""

import json
import threading
import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, Twist
from nav_msgs.msg import Path as PathMessage
from system.simulator import path_message, pose_message, wait_until
from transforms3d.euler import euler2mat

from hydra_model.cameras import load_cameras
from hydra_model.video import write_video
from hydra_ros import conversions, layouts
from reference import reference_folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder of clips none of which can be used."""
    folder = tmp_path_factory.mktemp("clips")
    cameras = {str(i): np.eye(4).tolist() for i in range(77)}
    frames = np.full((77, 96, 160, 3), 99, np.uint8)
    write_video(folder / "short.mp4", frames[:30], 15.0)
    write_video(folder / "square.mp4", frames[:, :, :96].repeat(2, 1).repeat(2, 2), 15.0)
    write_video(folder / "holes.mp4", frames, 15.0)
    for name in ("short", "square", "holes"):
        (folder / f"cam{name}.json").write_text(
            json.dumps({"cond_cam": cameras, "tgt_cam": cameras})
        )
    holes = {key: value for key, value in cameras.items() if key not in ("3", "40")}
    (folder / "camholes.json").write_text(json.dumps({"cond_cam": holes, "tgt_cam": cameras}))
    return folder


@pytest.fixture(scope="module")
def simulator(start_simulator, clips):
    parameters = {"clips_folder": clips, "playback_speed": 0.0, "seed": 11, "sampler_steps": 2}
    with start_simulator("/lockstep", **parameters) as started:
        yield started


@pytest.fixture
def client(simulator):
    """The client, in a new world."""
    response = simulator.client.reset("procedural", seed=3)
    assert response.success, response.message
    simulator.client.start = conversions.pose_from_message(response.start_pose.pose)
    return simulator.client


def turning(start: np.ndarray, count: int, degrees: float = 0.5) -> np.ndarray:
    """Return ``count`` body poses [count, 4, 4] that turn left from ``start``, a bit per frame."""
    poses = np.tile(start, (count, 1, 1))
    for i, pose in enumerate(poses):
        pose[:3, :3] = euler2mat(0, 0, np.radians(degrees * (i + 1))) @ start[:3, :3]
    return poses


def stamps(messages: list) -> list[int]:
    return [conversions.time_to_nanoseconds(message.header.stamp) for message in messages]


def memory(client) -> int:
    """Return the latent frames in memory, as of a new message of /diagnostics."""
    client.diagnostics = {}
    wait_until(lambda: client.diagnostics, "diagnostics")
    return int(client.diagnostics["memory_latent_frames"])


def test_it_activates_by_itself_and_starts_a_world(simulator):
    wait_until(lambda: simulator.client.diagnostics.get("state") == "running", "running world")
    assert simulator.client.state == "active"
    assert simulator.client.diagnostics["world"] == "procedural world 11 (look_away)"


def test_what_the_layouts_show_is_published(client):
    wait_until(lambda: all(map(client.published, layouts.SHOWN)), "publishers of all of it")
    assert {topic: client.published(topic) for topic in layouts.SHOWN} == {
        topic: [kind] for topic, kind in layouts.SHOWN.items()
    }


def test_one_path_gives_77_frames_with_everything_under_one_stamp(client):
    poses = turning(client.start, 77)
    client.path_cmd.publish(path_message(poses))
    frames = client.wait_frames(77)
    assert frames.shape[-1] == 3 and frames.dtype == np.uint8
    times = stamps(client.images)
    assert stamps(client.infos) == times
    assert stamps(client.poses) == times
    assert stamps(client.compressed) == times
    np.testing.assert_allclose(np.diff(times) / 1e9, 1 / 15, atol=1e-6)
    np.testing.assert_allclose(client.shown_poses(), poses, atol=1e-9)
    image, info = client.images[0], client.infos[0]
    assert image.header.frame_id == info.header.frame_id == "camera_optical_frame"
    assert (image.height, image.width) == (info.height, info.width) == frames.shape[1:3]
    assert client.poses[0].header.frame_id == "map"


def test_the_transforms_of_a_frame_have_its_stamp(client):
    messages = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs is not installed")
    received = client.listen(messages.TFMessage, "/tf")
    client.path_cmd.publish(path_message(turning(client.start, 5)))
    client.wait_frames(5)
    wait_until(lambda: len(received) == 5, "transforms")
    for message, stamp in zip(received, stamps(client.images), strict=True):
        assert stamps(message.transforms) == [stamp] * 2


def test_the_same_commands_give_the_same_frames(client):
    def run(seed: int) -> bytes:
        response = client.reset("procedural", seed=seed)
        poses = turning(conversions.pose_from_message(response.start_pose.pose), 10)
        for pose in poses[:5]:
            client.pose_cmd.publish(pose_message(pose))
        client.wait_frames(5)
        client.path_cmd.publish(path_message(poses[5:]))
        return client.wait_frames(10).tobytes()

    first = run(3)
    assert run(3) == first
    assert run(4) != first


def test_memory_grows_with_what_was_simulated(client):
    before = memory(client)
    client.path_cmd.publish(path_message(turning(client.start, 17)))
    client.wait_frames(17)
    assert memory(client) == before + 5


def test_poses_one_by_one_are_the_frames_one_by_one(client):
    poses = turning(client.start, 7)
    for index, pose in enumerate(poses):
        client.pose_cmd.publish(pose_message(pose, "", stamp=100 + index / 15))
    client.wait_frames(7)
    np.testing.assert_allclose(client.shown_poses(), poses, atol=1e-9)


def test_a_pose_relative_to_the_camera_moves_it_from_where_it_is(client):
    for _ in range(2):
        for frame in ("camera_link", "camera_optical_frame"):
            message = pose_message(np.eye(4), frame)
            if frame == "camera_link":
                message.pose.position.x = 0.1
            else:
                message.pose.position.z = 0.1
            client.pose_cmd.publish(message)
    client.wait_frames(4)
    moved = np.linalg.inv(client.start) @ client.shown_poses()
    np.testing.assert_allclose(moved[:, 0, 3], [0.1, 0.2, 0.3, 0.4], atol=1e-6)


def test_a_velocity_moves_the_camera_by_one_frame(client):
    twist = Twist()
    twist.linear.x = 0.75
    publisher = client.velocity_publisher(Twist)
    for _ in range(5):
        publisher.publish(twist)
    client.wait_frames(5)
    client.remove(publisher)
    moved = np.linalg.inv(client.start) @ client.shown_poses()
    np.testing.assert_allclose(moved[:, 0, 3], 0.05 * np.arange(1, 6), atol=1e-6)


def test_commands_wait_for_the_world_that_is_being_started(client):
    path = path_message(turning(client.start, 5))
    client.diagnostics = {}
    answers = [client.reset_soon("procedural", seed) for seed in range(20, 28)]
    wait_until(lambda: client.diagnostics.get("state") == "starting", "start")
    client.path_cmd.publish(path)
    wait_until(lambda: all(answer.done() for answer in answers), "worlds")
    assert all(answer.result().success for answer in answers)
    frames = client.wait_frames(5)
    client.reset("procedural", seed=27)
    client.path_cmd.publish(path)
    assert np.array_equal(client.wait_frames(5), frames)


def test_commands_that_waited_for_a_world_that_is_refused_go_to_the_one_that_runs(client):
    answers = [client.reset_soon("nothing", seed) for seed in range(3)]
    client.path_cmd.publish(path_message(turning(client.start, 5)))
    client.wait_frames(5)
    wait_until(lambda: all(answer.done() for answer in answers), "answers")
    assert not any(answer.result().success for answer in answers)


def test_frames_come_at_the_frame_rate_unless_told_otherwise(client):
    assert client.set_parameter("playback_speed", 1.0) == (True, "")
    came = []
    try:
        client.path_cmd.publish(path_message(turning(client.start, 17)))
        wait_until(lambda: client.images, "first frame")
        started = time.monotonic()
        client.wait_frames(17)
        came = time.monotonic() - started - 0.3
    finally:
        client.set_parameter("playback_speed", 0.0)
    assert came == pytest.approx(16 / 15, abs=0.4)


# --- Bad input ---


def bad_position(x: float) -> PoseStamped:
    message = pose_message(np.eye(4))
    message.pose.position.x = x
    return message


def bad_quaternion() -> PoseStamped:
    message = pose_message(np.eye(4))
    message.pose.orientation.w = 0.0
    return message


BAD_COMMANDS = [
    ("pose_cmd", bad_position(float("nan")), "pose_cmd refused: pose: position [nan"),
    ("pose_cmd", bad_quaternion(), "pose_cmd refused: pose: orientation is the zero quaternion"),
    ("pose_cmd", pose_message(np.eye(4), "odom"), "pose_cmd refused: frame_id 'odom' is unknown"),
    ("path_cmd", path_message([]), "path_cmd refused: the path has no poses"),
    (
        "path_cmd",
        PathMessage(poses=[bad_position(1e300)]),
        "path_cmd refused: pose 0: position [1e+300, 0.0, 0.0] is too far away",
    ),
    (
        "path_cmd",
        path_message([np.eye(4)] * 2, times=[2.0, 1.0]),
        "path_cmd refused: the stamps run backwards",
    ),
    (
        "path_cmd",
        path_message([np.eye(4)] * 2, times=[0.0, 1e6]),
        "path_cmd refused: 15000001 more frames commanded",
    ),
]


def test_bad_commands_are_refused_with_one_message_each_and_change_nothing(simulator):
    client, process = simulator.client, simulator.process
    client.forget()
    since, before = len(process.log), memory(client)
    for topic, message, words in BAD_COMMANDS:
        for _ in range(3):
            getattr(client, topic).publish(message)
        wait_until(lambda words=words: process.logged(words, since), f"message {words!r}")
    assert memory(client) == before
    assert len(process.log) == since + len(BAD_COMMANDS), process.log[since:]
    assert not client.images


def test_stamps_of_poses_that_run_backwards_are_refused(simulator, client):
    poses = turning(client.start, 2)
    since = len(simulator.process.log)
    client.pose_cmd.publish(pose_message(poses[0], stamp=10.0))
    client.pose_cmd.publish(pose_message(poses[1], stamp=5.0))
    client.wait_frames(1)
    assert len(simulator.process.logged("5 s runs backwards", since)) == 1


BAD_CLIPS = [
    ("nothing", "there is no clip 'nothing'"),
    ("../clips", "must be a plain name"),
    ("short", "30 readable frames; 77 are needed"),
    ("square", "192x192, of another shape"),
    ("holes", 'lacks 2 entries: "3", "40"'),
]


def test_bad_clips_are_refused_with_one_message_each_and_the_world_goes_on(simulator):
    client, process = simulator.client, simulator.process
    since, before = len(process.log), memory(client)
    for source, words in BAD_CLIPS:
        response = client.reset(source)
        assert not response.success
        assert words in response.message
        # The log may come a little after the answer.
        wait_until(lambda words=words: process.logged(words, since), f"message {words!r}")
        assert len(process.logged(words, since)) == 1
    assert memory(client) == before
    assert client.diagnostics["state"] == "running"


def test_a_flood_of_poses_is_one_warning_and_the_node_stays_responsive(simulator, client):
    process = simulator.process
    since = len(process.log)
    assert client.set_parameter("max_pending_frames", 100)[0]
    stop = threading.Event()

    def flood() -> None:
        message = pose_message(client.start)
        while not stop.wait(0.001):
            client.pose_cmd.publish(message)

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        wait_until(lambda: process.logged("max_pending_frames", since), "warning")
        assert client.state == "active"  # it answers, in the middle of it
    finally:
        stop.set()
        flooding.join()
        client.set_parameter("max_pending_frames", 1500)
    assert len(process.logged("max_pending_frames", since)) == 1
    wait_until(lambda: client.images, "the first frames of the flood")
    count = 0
    while len(client.images) > count:  # what the middleware still holds of it
        count = len(client.images)
        time.sleep(3.0)  # longer than a chunk takes on a busy machine
    assert client.reset("procedural", seed=3).success
    client.path_cmd.publish(path_message([client.start]))
    client.wait_frames(1)


def test_a_bad_parameter_is_refused(simulator):
    good, reason = simulator.client.set_parameter("chunk_frames", 16)
    assert not good and "1 + 4 k" in reason
    good, reason = simulator.client.set_parameter("chunk_frames", 4001)
    assert not good and "at most" in reason
    good, _ = simulator.client.set_parameter("mode", "realtime")
    assert not good


# --- Real input ---


def test_a_released_clip_is_driven_along_its_own_target_cameras(simulator, clips):
    client = simulator.client
    client.set_parameter("clips_folder", str(reference_folder("examples")))
    response = client.reset("1", seed=1)
    assert response.success, response.message
    track = load_cameras(reference_folder("examples", "cam1.json"))
    start = conversions.pose_from_message(response.start_pose.pose)
    np.testing.assert_allclose(start, conversions.optical_to_body(track.context[-1]), atol=1e-6)
    poses = conversions.optical_to_body(track.target)
    for pose in poses:
        client.pose_cmd.publish(pose_message(pose))
    frames = client.wait_frames(77)
    assert frames.std() > 1.0  # pictures, whatever they show
    np.testing.assert_allclose(client.shown_poses(), poses, atol=1e-5)
