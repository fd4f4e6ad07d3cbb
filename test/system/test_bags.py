# SPDX-License-Identifier: Apache-2.0
"""record, replay and reset against a real node, over DDS."""

import re
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from mcap_ros2.reader import read_ros2_messages
from ros.recording import robot_bags
from rosbags.rosbag2 import Reader
from system.simulator import Client, SimulatorProcess, path_message, wait_until

import small_models
from hydra_model.video import read_video
from hydra_ros.conversions import pose_from_message
from hydra_ros.recording.bag import Bag
from hydra_ros.recording.story import read_story

COMMAND = [sys.executable, "-m", "hydra_ros.cli.main"]
NAMESPACE = "/bags"


def run(*arguments) -> subprocess.CompletedProcess:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    """A small model of 17 frames of context, in lockstep."""
    model = tmp_path_factory.mktemp("model")
    small_models.write_model(model)
    parameters = {"model": model, "device": "cpu", "seed": 5, "playback_speed": 3.0}
    process = SimulatorProcess(parameters, NAMESPACE)
    client = Client(NAMESPACE)
    try:
        client.wait_connected()
        yield SimpleNamespace(process=process, client=client, model=model)
    except BaseException:
        print("\n".join(process.log))
        raise
    finally:
        client.close()
        process.end()


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """Odometry at 20 Hz and a camera at 15 Hz, as SQLite."""
    pictures = np.random.default_rng(2).integers(0, 256, (30, 48, 80, 3)).astype(np.uint8)
    messages = {
        "/odom": robot_bags.drive(2.0),
        "/front": [robot_bags.image(picture, i / 15) for i, picture in enumerate(pictures)],
    }
    return robot_bags.write_bag(tmp_path_factory.mktemp("bags") / "robot", messages)


def read(bag) -> tuple[list[bytes], np.ndarray]:
    """Return the images' bytes and the poses [N, 4, 4] of a bag, with an independent reader."""
    images, poses = [], []
    for entry in read_ros2_messages(next(bag.glob("*.mcap"))):
        if entry.channel.topic.endswith("camera/image_raw"):
            images.append(bytes(entry.ros_msg.data))
        elif entry.channel.topic.endswith("camera/pose"):
            poses.append(pose_from_message(entry.ros_msg.pose))
    return images, np.stack(poses)


@pytest.fixture
def recorder(tmp_path):
    """``hydra-ros record`` to "run", its printed lines as they come in ``lines``."""
    process = subprocess.Popen(
        # As a shell starts it in the background: with SIGINT ignored.
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND, "record",
         "--namespace", NAMESPACE, "--output", tmp_path / "run"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    reader.start()
    yield SimpleNamespace(process=process, reader=reader, lines=lines)
    process.kill()
    process.wait()
    reader.join()


def messages_of(recorder) -> int:
    """Return how many messages it last said to have."""
    counts = [re.search(r"ends it\): (\d+)", line) for line in recorder.lines]
    return max((int(count[1]) for count in counts if count), default=0)


def drive(client) -> list[np.ndarray]:
    """Go a tenth of a metre twelve times, and return the frames."""
    client.forget()
    step = np.eye(4)
    step[0, 3] = 0.1
    client.path_cmd.publish(path_message([step] * 12, "camera_link"))
    frames = client.wait_frames(12)
    wait_until(lambda: client.diagnostics.get("frames_waiting") == "0", "diagnostics")
    return frames


def test_a_recording_holds_what_was_commanded_and_shown(simulator, recorder, tmp_path):
    client = simulator.client
    for _ in range(20):  # until the simulator has found the recorder: images, infos and poses come
        before = messages_of(recorder)
        drive(client)
        time.sleep(1.5)  # it prints a line a second
        if messages_of(recorder) - before >= 3 * 12:
            break
    frames = drive(client)
    recorder.process.send_signal(signal.SIGINT)
    assert recorder.process.wait(30) == 0, recorder.lines
    recorder.reader.join()
    images, poses = read(tmp_path / "run")
    assert images[-12:] == [frame.tobytes() for frame in frames]
    np.testing.assert_allclose(poses[-12:], client.shown_poses(), atol=1e-12)
    with Reader(tmp_path / "run") as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    assert counts["/bags/path_cmd"] >= 1
    assert counts["/bags/camera/camera_info"] >= 12
    assert any("/bags/path_cmd" in line for line in recorder.lines)
    with Bag(tmp_path / "run") as bag:
        assert len(read_story(bag).thumbnails) == 8


def replayed(robot, output, *options):
    done = run("replay", robot, "--output", output, "--namespace", NAMESPACE, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return read(output)


@pytest.fixture(scope="module")
def first(simulator, robot, tmp_path_factory):
    """The bag, replayed once."""
    output = tmp_path_factory.mktemp("replays") / "first"
    return (output, *replayed(robot, output, "--source", "procedural", "--seed", 9))


def test_replaying_a_bag_again_gives_the_same_frames(simulator, robot, first, tmp_path):
    output, images, poses = first
    assert len(images) == 31  # two seconds at 15 Hz
    video, fps = read_video(output.with_suffix(".mp4"))
    assert (len(video), fps) == (31, 15.0)
    simulator.client.path_cmd.publish(path_message([np.eye(4)] * 3, "camera_link"))  # in between
    again, poses_again = replayed(robot, tmp_path / "again", "--source", "procedural", "--seed", 9)
    assert again == images
    np.testing.assert_array_equal(poses_again, poses)


def test_the_camera_goes_the_way_of_the_robot_from_its_own_start(simulator, first):
    answer = simulator.client.reset("procedural", seed=9)
    start = pose_from_message(answer.start_pose.pose)
    _, _, poses = first
    way = np.linalg.inv(robot_bags.curve(0.0)) @ robot_bags.curve(1.0)
    np.testing.assert_allclose(poses[0], start, atol=1e-6)
    np.testing.assert_allclose(poses[15], start @ way, atol=1e-6)


def test_poses_can_be_taken_as_they_stand_and_another_seed_is_another_world(
    simulator, robot, first, tmp_path
):
    images, poses = replayed(robot, tmp_path / "world", "--world", "--seed", 10)
    np.testing.assert_allclose(poses[15], robot_bags.curve(1.0), atol=1e-6)
    assert images != first[1]


def test_poses_relative_to_the_robot_are_replayed_where_its_transforms_place_them(
    simulator, tmp_path
):
    messages = {
        "/mount": [
            robot_bags.pose_stamped(robot_bags.mounted(), i / 20, "base_link") for i in range(21)
        ],
        **robot_bags.transforms(1.0),
    }
    bag = robot_bags.write_bag(tmp_path / "robot", messages)
    _, poses = replayed(bag, tmp_path / "seen", "--frame", "map", "--world", "--seed", 9)
    assert len(poses) == 16
    exact = robot_bags.raised() @ robot_bags.curve(1.0) @ robot_bags.mounted()
    np.testing.assert_allclose(poses[15], exact, atol=1e-6)


def test_a_world_starts_from_a_recorded_camera(simulator, robot, tmp_path):
    done = run(
        "reset", "--namespace", NAMESPACE, "--from-bag", robot, "--image-topic", "/front",
        "--odom-topic", "/odom", "--at", "0.2", "--clips-folder", tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "clip 'robot'" in done.stdout
    answer = simulator.client.reset("robot")  # the clip stays, for the next time
    assert answer.success, answer.message
    # 17 frames of context: the last is 16 / 15 s after 0.2 s.
    end = pose_from_message(answer.start_pose.pose)
    np.testing.assert_allclose(end, robot_bags.curve(0.2 + 16 / 15), atol=1e-3)


def test_a_simulator_that_refuses_is_exit_code_1_with_its_reason(simulator):
    done = run("reset", "--namespace", NAMESPACE, "--source", "no_such_clip")
    assert done.returncode == 1
    assert "the simulator refuses the reset: there is no clip 'no_such_clip'" in done.stderr


@pytest.mark.parametrize("hangs", [False, True], ids=["running", "hanging"])
def test_an_interrupt_ends_a_replay_at_once_whatever_the_simulator_does(
    simulator, tmp_path, hangs
):
    bag = robot_bags.write_bag(tmp_path / "robot", {"/odom": robot_bags.drive(60.0)})
    client, process = simulator.client, simulator.process
    client.reset("procedural", seed=1)  # nothing is left to show
    replay = subprocess.Popen(
        [*COMMAND, "replay", bag, "--output", tmp_path / "seen", "--namespace", NAMESPACE],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until(lambda: client.images or replay.poll() is not None, "frame")
        if hangs:
            process.send_signal(signal.SIGSTOP)
        replay.send_signal(signal.SIGINT)
        _, errors = replay.communicate(timeout=10)
    finally:
        process.send_signal(signal.SIGCONT)
        replay.kill()
    assert (errors, replay.returncode) == ("", 130)
    if hangs:
        client.set_parameter("playback_speed", 3.0)
    else:  # it was put back
        assert client.parameter("playback_speed") == 3.0


def test_a_replay_whose_own_simulator_has_no_model_says_so_and_can_be_tried_again(robot, tmp_path):
    output = tmp_path / "again"
    done = run("replay", robot, "--start", "--model", tmp_path / "none", "--output", output)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"model '{tmp_path / 'none'}' was not loaded" in line
    assert not output.exists()
