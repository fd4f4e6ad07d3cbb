# SPDX-License-Identifier: Apache-2.0
"""What the node shows of its memory, over DDS."""

import numpy as np
import pytest
from sensor_msgs.msg import Image
from system.simulator import path_message, wait_until
from visualization_msgs.msg import MarkerArray

import small_models
from hydra_ros import conversions
from hydra_ros.msg import Memory


@pytest.fixture(scope="module")
def simulator(start_simulator, tmp_path_factory):
    model = tmp_path_factory.mktemp("model")
    small_models.write_model(model)
    spill = tmp_path_factory.mktemp("spill")
    with start_simulator(
        "/memory",
        model=model,
        playback_speed=0.0,
        memory_policy="recent",
        memory_host_mb=0.005,
        memory_folder=spill,
    ) as started:
        wait_until(lambda: started.client.diagnostics.get("state") == "running", "running world")
        yield started


@pytest.fixture
def client(simulator):
    assert simulator.client.reset("procedural", seed=3).success
    return simulator.client


def drive(client, count: int) -> None:
    client.forget()
    client.path_cmd.publish(path_message([np.eye(4)] * count, "camera_link"))
    client.wait_frames(count)


def drive_until(client, condition, what: str) -> None:
    """Go on chunk by chunk: the node may notice a new subscriber only after a moment."""
    wait_until(lambda: drive(client, 9) or condition(), what)


def test_every_chunk_says_what_it_remembered_and_why(client):
    messages = client.listen(Memory, "memory")
    markers = client.listen(MarkerArray, "memory/markers")
    drive_until(client, lambda: messages and markers, "messages")
    message = messages[-1]
    assert message.policy == "recent"
    assert message.header.frame_id == "map"
    selected = [frame for frame in message.frames if frame.selected]
    assert selected and message.frames[: len(selected)] == selected
    assert len(message.frames) == message.memory_frames <= 64
    assert all(frame.age > 0 and list(frame.terms) == ["recent"] for frame in message.frames)
    shown = conversions.pose_from_message(client.poses[-1].pose)
    np.testing.assert_allclose(conversions.pose_from_message(selected[-1].pose), shown, atol=1e-6)
    assert [marker.ns for marker in markers[-1].markers] == ["remembered", "selected", "camera"]


def test_the_policy_can_be_changed_while_it_runs(client):
    messages = client.listen(Memory, "memory")
    assert client.set_parameter("memory_policy", "overlap") == (True, "")
    drive_until(client, lambda: messages and messages[-1].policy == "overlap", "other policy")
    good, reason = client.set_parameter("memory_policy", "psychic")
    assert not good and "accepted: default, recent, overlap, hybrid" in reason
    assert client.set_parameter("memory_policy", "recent")[0]


def test_the_retrieval_is_shown_when_it_is_asked_for(client):
    pictures = client.listen(Image, "memory/retrieval")
    drive(client, 9)
    assert not pictures
    assert client.set_parameter("publish_retrieval", True)[0]
    drive_until(client, lambda: pictures, "picture")
    assert pictures[0].encoding == "rgb8" and pictures[0].width > 200
    client.set_parameter("publish_retrieval", False)


def test_thumbnails_come_when_they_are_asked_for(client):
    messages = client.listen(Memory, "memory")
    assert client.set_parameter("memory_thumbnails", True)[0]
    drive_until(
        client,
        lambda: messages and all(len(frame.thumbnail) for frame in messages[-1].frames),
        "thumbnails",
    )
    client.set_parameter("memory_thumbnails", False)


def test_memory_beyond_the_limit_goes_to_disk_and_is_still_used(client, simulator):
    def spilled() -> bool:
        return float(client.diagnostics["memory_disk_megabytes"]) > 0.01

    drive_until(client, spilled, "memory on disk")
    assert float(client.diagnostics["memory_host_megabytes"]) < 0.02
    assert not simulator.process.logged("a chunk failed")
