# SPDX-License-Identifier: Apache-2.0
"""The node in realtime: time goes on by itself, and the newest command is followed."""

import dataclasses
import itertools
import time

import numpy as np
import pytest
from geometry_msgs.msg import Twist, TwistStamped
from system.simulator import path_message, pose_message, wait_until

import small_models
from hydra_ros import conversions


@pytest.fixture(scope="module")
def simulator(start_simulator):
    with start_simulator("/realtime", mode="realtime", seed=3, sampler_steps=1) as started:
        yield started


@pytest.fixture
def client(simulator):
    client = simulator.client
    client.forget()
    wait_until(lambda: client.poses, "frame")
    return client


def last_pose(client) -> np.ndarray:
    return conversions.pose_from_message(client.poses[-1].pose)


def drive(client, kind: type, metres_per_second: float) -> None:
    """Publish a velocity like a teleop would until the camera moved 0.1 m that way."""
    message = kind()
    twist = message.twist if kind is TwistStamped else message
    twist.linear.x = metres_per_second
    publisher = client.velocity_publisher(kind)
    start = last_pose(client)

    def moved() -> bool:
        publisher.publish(message)
        time.sleep(0.05)
        forward = (np.linalg.inv(start) @ last_pose(client))[0, 3]
        return forward * np.sign(metres_per_second) > 0.1

    try:
        wait_until(moved, f"motion at {metres_per_second} m/s", 30)
    finally:
        client.remove(publisher)


def test_time_goes_on_without_commands_and_is_stamped_by_the_clock(client):
    wait_until(lambda: len(client.images) > 30, "thirty frames")
    stamps = [conversions.time_to_nanoseconds(image.header.stamp) for image in client.images]
    assert all(after > before for before, after in itertools.pairwise(stamps))
    assert abs(stamps[-1] / 1e9 - time.time()) < 5
    np.testing.assert_allclose(last_pose(client), client.shown_poses()[0], atol=1e-9)


def test_the_reached_real_time_factor_and_the_latency_are_reported(client):
    drive(client, Twist, 0.5)
    wait_until(lambda: float(client.diagnostics.get("latency_s", 0)) > 0, "latency")
    assert 0.0 < float(client.diagnostics["real_time_factor"]) < 1.2
    assert float(client.diagnostics["latency_s"]) < 30


@pytest.mark.parametrize("kind", [Twist, TwistStamped])
def test_a_teleop_of_either_type_drives_the_camera(client, kind):
    drive(client, kind, 0.5)
    drive(client, kind, -0.5)


def test_a_camera_that_is_no_longer_driven_stands_still(client):
    drive(client, Twist, 0.5)

    def still() -> bool:
        client.forget()
        wait_until(lambda: len(client.poses) > 15, "frames")
        return np.abs(np.diff(client.shown_poses()[:, :3, 3], axis=0)).max() < 1e-9

    wait_until(still, "standstill", 30)


def test_a_pose_is_reached_and_held(client):
    goal = last_pose(client) @ np.array(
        [[1, 0, 0, 0.3], [0, 1, 0, 0.1], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )
    client.pose_cmd.publish(pose_message(goal))
    wait_until(lambda: np.abs(last_pose(client) - goal).max() < 1e-6, "camera at the goal", 30)
    steps = np.diff(client.shown_poses()[:, :3, 3], axis=0)
    assert np.linalg.norm(steps, axis=1).max() <= 2.0 / 15 + 1e-6  # the speed limit


def test_commands_wait_for_the_world_that_is_being_started(client):
    goal = np.eye(4)
    goal[:3, 3] = 3.0, 2.0, 1.0
    client.diagnostics = {}
    answers = [client.reset_soon("procedural", seed) for seed in range(20, 28)]
    wait_until(lambda: client.diagnostics.get("state") == "starting", "start")
    client.path_cmd.publish(path_message([goal]))
    wait_until(lambda: all(answer.done() for answer in answers), "worlds")
    assert all(answer.result().success for answer in answers)
    wait_until(lambda: np.abs(last_pose(client) - goal).max() < 1e-6, "camera at the goal", 30)
    client.forget()
    wait_until(lambda: len(client.poses) > 15, "frames")
    np.testing.assert_allclose(last_pose(client), goal, atol=1e-6)


def test_who_begins_to_drive_need_not_wait_for_a_standstill(start_simulator, tmp_path):
    # Chunks that take long, and are shown quickly: after a silence the next one is being sampled.
    blocks = dataclasses.replace(small_models.CONFIG.transformer, num_blocks=4)
    small_models.write_model(tmp_path, transformer=blocks)
    slow = {"model": tmp_path, "mode": "realtime", "chunk_frames": 5, "sampler_steps": 1000}
    with start_simulator("/slow", **slow) as simulator:
        client = simulator.client
        publisher = client.velocity_publisher(Twist)
        wait_until(lambda: client.poses, "frame")
        count = 0
        while len(client.poses) > count:
            count = len(client.poses)
            time.sleep(0.3)  # frames that are there come every 0.07 s
        standing = last_pose(client)
        twist = Twist()
        twist.linear.x = 0.5
        publisher.publish(twist)
        wait_until(lambda: len(client.poses) > count, "next frame")
        assert np.linalg.norm(client.shown_poses()[count][:3, 3] - standing[:3, 3]) > 0.01
