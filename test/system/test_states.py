# SPDX-License-Identifier: Apache-2.0
"""Saved states over DDS: the same commands from the same state give the same frames."""

import json
import resource
import signal

import numpy as np
import pytest
from system.simulator import path_message, pose_message, wait_until

import small_models
from hydra_ros import conversions
from hydra_ros.srv import DeleteState, ListStates, LoadState, SaveState

PARAMETERS = {"playback_speed": 0.0, "lockstep_timeout": 0.05, "seed": 4}


@pytest.fixture(scope="module")
def parameters(tmp_path_factory):
    model = tmp_path_factory.mktemp("model")
    small_models.write_model(model)
    return {**PARAMETERS, "model": model}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("states") / "of_this_test"


@pytest.fixture(scope="module")
def simulator(start_simulator, parameters, folder):
    with start_simulator("/states", states_folder=folder, **parameters) as started:
        wait_running(started.client)
        yield started


@pytest.fixture
def client(simulator):
    """The client, in a new world without states."""
    client = simulator.client
    for state in states(client):
        assert delete(client, state.name).success
    response = client.reset("procedural", seed=3)
    assert response.success, response.message
    return client


def wait_running(client) -> None:
    wait_until(lambda: client.diagnostics.get("state") == "running", "running world")


def save(client, name: str, *, overwrite: bool = False, persistent: bool = False):
    return client.call(
        SaveState, "save_state", name=name, overwrite=overwrite, persistent=persistent
    )


def load(client, name: str):
    response = client.call(LoadState, "load_state", name=name)
    if response.success:
        client.forget()
    return response


def delete(client, name: str):
    return client.call(DeleteState, "delete_state", name=name)


def states(client) -> list:
    response = client.call(ListStates, "list_states")
    assert response.success, response.message
    return list(response.states)


def drive(client, count: int, step: float = 0.02) -> bytes:
    """Drive forward, single poses first and then a path; return the frames."""
    client.forget()
    forward = np.eye(4)
    forward[0, 3] = step
    for _ in range(3):
        client.pose_cmd.publish(pose_message(forward, "camera_link"))
    poses = [np.linalg.matrix_power(forward, i + 1) for i in range(count - 3)]
    client.wait_frames(3)
    client.path_cmd.publish(path_message(poses, "camera_link"))
    return client.wait_frames(count).tobytes()


def test_the_same_commands_from_a_saved_state_give_the_same_frames(client):
    drive(client, 5)
    saved = save(client, "branch")
    assert saved.success, saved.message
    first = drive(client, 12)
    last = client.shown_poses()[-1]
    other = drive(client, 12)
    response = load(client, "branch")
    assert response.success, response.message
    assert response.state == saved.state
    assert drive(client, 12) == first != other
    np.testing.assert_allclose(client.shown_poses()[-1], last, atol=1e-12)
    assert client.reset("state:branch").success
    assert drive(client, 12) == first


def test_a_state_says_what_it_holds(client):
    drive(client, 5)
    state = save(client, "facts").state
    assert state.name == "facts" and not state.persistent
    assert state.time == pytest.approx(5 / 15)
    assert state.memory_frames > 3 and state.memory_bytes > 0
    assert state.world == "procedural world 3 (look_away)"
    shown = conversions.pose_from_message(client.poses[-1].pose)
    np.testing.assert_allclose(conversions.pose_from_message(state.pose.pose), shown, atol=1e-9)
    assert state.pose.header.frame_id == "map"
    assert states(client) == [state]


def test_a_state_on_disk_is_there_after_a_restart_and_gives_the_same_frames(
    client, start_simulator, parameters, folder
):
    drive(client, 5)
    saved = save(client, "kept", persistent=True)
    assert saved.success, saved.message
    first = drive(client, 7)
    (folder / "notes.txt").write_text("not a state")
    source = {"start_source": "state:kept", "seed": 9}
    with start_simulator("/restarted", states_folder=folder, **{**parameters, **source}) as other:
        wait_running(other.client)
        assert [state.name for state in states(other.client)] == ["kept"]
        assert drive(other.client, 7) == first
        assert load(other.client, "kept").state.time == pytest.approx(5 / 15)
        assert drive(other.client, 7) == first


def test_loading_drops_what_was_commanded_and_is_not_simulated(client):
    assert save(client, "start").success
    client.path_cmd.publish(path_message([np.eye(4)] * 900, "camera_link"))
    wait_until(lambda: client.images, "frame")
    during = save(client, "during")  # answered with the last committed chunk
    assert during.success
    assert during.state.time * 15 % 9 == pytest.approx(0, abs=1e-6)
    assert load(client, "start").success
    drive(client, 4)
    wait_until(lambda: int(client.diagnostics["commands_dropped"]) > 0, "count of what was dropped")


def test_a_name_is_taken_until_overwrite_is_set(client):
    assert save(client, "one").success
    again = save(client, "one")
    assert not again.success and "set overwrite" in again.message
    drive(client, 4)
    assert save(client, "one", overwrite=True).state.time == pytest.approx(4 / 15)
    assert len(states(client)) == 1


# --- Bad input ---


def unharmed(client, before: bytes) -> None:
    """The world goes on as if nothing had been asked for."""
    # Diagnostics come once a second: the last may be older than what was just done.
    wait_until(lambda: client.diagnostics["state"] == "running", "word of the running world")
    assert drive(client, 7) == before


@pytest.fixture
def live(client):
    """The frames that the running world gives next if nothing disturbs it."""
    assert save(client, "live").success
    frames = drive(client, 7)
    assert load(client, "live").success
    return frames


def test_names_that_could_be_paths_are_refused(client, live, folder):
    for name in ("../escape", "/tmp/escape", "a/b", "", ".hidden", "x" * 65):
        for answer in (save(client, name, persistent=True), load(client, name)):
            assert not answer.success
            assert "letters, digits" in answer.message
        assert not delete(client, name).success
    assert not (folder.parent / "escape").exists()
    unharmed(client, live)


def test_unknown_broken_and_foreign_states_are_refused(client, live, folder):
    save(client, "broken", persistent=True)
    save(client, "retrained", persistent=True)
    save(client, "flipped", persistent=True)
    facts = json.loads((folder / "retrained" / "state.json").read_text())
    facts["weights"] = "others"
    del facts["checksum"]
    (folder / "retrained" / "state.json").write_text(json.dumps(facts))
    (next((folder / "broken").glob("memory-*"))).write_bytes(b"cut short")
    flipped = next((folder / "flipped").glob("memory-*"))
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    for name in ("broken", "retrained", "flipped"):
        (folder / name).rename(folder / f"{name}-disk")  # in memory they are still whole
    (folder / "link").symlink_to(folder / "retrained-disk")
    refused = {
        "nothing": "there is no state 'nothing'",
        "broken-disk": "was cut short or changed",
        "retrained-disk": "of other weights",
        "flipped-disk": f"{flipped.name} changed since it was written",
        "link": "is a symbolic link",
    }
    for name, words in refused.items():
        response = load(client, name)
        assert not response.success
        assert words in response.message
    (folder / "link").unlink()
    unharmed(client, live)


def test_a_full_disk_is_an_error_and_the_world_goes_on(client, live, simulator, folder):
    process = simulator.process.pid
    limits = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        response = save(client, "too_large", persistent=True)
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, limits)
    assert not response.success
    assert "state 'too_large' cannot be written" in response.message
    assert not (folder / "too_large").exists()
    unharmed(client, live)


# --- Restarts ---


def test_a_killed_node_goes_on_from_its_last_committed_chunk(start_simulator, parameters, tmp_path):
    parameters = {**parameters, "states_folder": tmp_path, "autosave": True, "resume": True}
    with start_simulator("/episode", **parameters) as first:
        client = first.client
        wait_running(client)
        drive(client, 12)
        wait_until(lambda: [s.time * 15 for s in states(client)] == [pytest.approx(12)], "autosave")
        client.set_parameter("autosave", False)
        expected = drive(client, 7)
        first.process.interrupt(signal.SIGKILL)
    with start_simulator("/episode", **parameters) as second:
        wait_running(second.client)
        assert drive(second.client, 7) == expected
        (state,) = states(second.client)
        assert state.world == "procedural world 4 (look_away)"
