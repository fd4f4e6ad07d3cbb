# SPDX-License-Identifier: Apache-2.0
"""Rollouts and commits over DDS, through the Python client, on a tiny model in lockstep."""

import math
import threading

import numpy as np
import pytest
import rclpy
from nav_msgs.msg import Path
from rclpy.executors import SingleThreadedExecutor
from system.drives import difference, stepped, turning
from system.simulator import wait_until

import small_models
from hydra_ros.action import Rollout
from hydra_ros.action_client import ActionClient
from hydra_ros.client import SimulatorClient, SimulatorError, path_message
from hydra_ros.conversions import time_to_nanoseconds
from hydra_ros.node_spinner import NodeSpinner
from hydra_ros.srv import Commit

NAMESPACE = "/rollouts"
CHUNK = 9  # of the tiny model
LEVELS = 2  # products of a batch are rounded otherwise than those of one candidate


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    small_models.write_model(folder)
    return folder


@pytest.fixture(scope="module")
def process(start_simulator, tiny_model, tmp_path_factory):
    parameters = {
        "model": tiny_model,
        "dtype": "float32",
        "playback_speed": 0.0,
        "seed": 5,
        "max_rollout_candidates": 64,
        "max_result_bytes": 2_000_000,
        "states_folder": tmp_path_factory.mktemp("states"),
    }
    with start_simulator(NAMESPACE, **parameters) as started:
        yield started.process


@pytest.fixture(scope="module")
def connected(process):
    with SimulatorClient(NAMESPACE) as client:
        client.wait_for_simulator()
        yield client


@pytest.fixture
def client(connected):
    """The client, in a new world."""
    connected.start = connected.reset("procedural", seed=5).pose
    return connected


def test_what_is_imagined_is_what_then_comes(client):
    paths = [turning(client.start, 2 * CHUNK, degrees) for degrees in (-2, 0, 2)]
    futures = client.imagine(paths, encoding="png")
    assert [future.candidate for future in futures] == [0, 1, 2]
    for future, path in zip(futures, paths, strict=True):
        np.testing.assert_allclose(future.poses, path, atol=1e-9)
        focal = 80 / 2 / math.tan(math.radians(70 / 2))
        camera = [[focal, 0, 39.5], [0, focal, 23.5], [0, 0, 1]]
        np.testing.assert_allclose(future.intrinsics, camera, rtol=1e-6)
        client.reset("procedural", seed=5)
        assert difference(future.frames, stepped(client, path)) <= LEVELS


def test_the_live_world_does_not_notice(client):
    path = turning(client.start, CHUNK, 1)
    expected = stepped(client, path)
    client.reset("procedural", seed=5)
    client.imagine([turning(client.start, CHUNK, 3)] * 5)
    assert np.array_equal(stepped(client, path), expected)


@pytest.mark.parametrize(
    ("frames", "indices"), [("all", range(18)), ("last", [17]), (6, [5, 11, 17])]
)
def test_only_the_wanted_frames_come_back(client, frames, indices):
    (future,) = client.imagine([turning(client.start, 18, 1)], frames=frames, encoding="rgb8")
    assert future.indices.tolist() == list(indices)
    assert len(future.frames) == len(future.poses) == len(indices)
    client.reset("procedural", seed=5)
    expected = stepped(client, turning(client.start, 18, 1))[list(indices)]
    assert difference(future.frames, expected) <= LEVELS


def test_jpeg_is_the_default_and_looks_the_same(client):
    path = [turning(client.start, CHUNK, 1)]
    jpeg, exact = client.imagine(path)[0], client.imagine(path, encoding="png")[0]
    assert np.abs(jpeg.frames.astype(int) - exact.frames).mean() < 30  # of noise


def test_samples_differ_and_a_seed_gives_one_again(client):
    path = [turning(client.start, CHUNK, 1)]
    first, second = client.imagine(path, samples=2, encoding="png")
    assert first.seed == 5 != second.seed
    assert not np.array_equal(first.frames, second.frames)
    (again,) = client.imagine(path, seed=second.seed, encoding="png")
    assert difference(again.frames, second.frames) <= LEVELS


def test_relative_paths_begin_at_the_camera(client):
    motion = turning(np.eye(4), CHUNK, 1)
    (future,) = client.imagine([motion], relative=True)
    np.testing.assert_allclose(future.poses, client.start @ motion, atol=1e-6)


def test_progress_is_told_after_every_chunk(client):
    told = []
    client.imagine([turning(client.start, 2 * CHUNK, 1)], on_progress=told.append)
    assert [progress.frames_done for progress in told] == [CHUNK, 2 * CHUNK]
    assert told[0].time_left > 0 == told[1].time_left


def test_a_saved_state_can_be_imagined_from(client):
    path = turning(client.start, CHUNK, 1)
    client.save("start", overwrite=True)
    expected = stepped(client, path)
    (future,) = client.imagine([path], state="start", encoding="png")
    assert difference(future.frames, expected) <= LEVELS
    (now,) = client.imagine([path], encoding="png")
    assert not np.array_equal(now.frames, future.frames)


def test_a_committed_future_is_shown_and_goes_on_as_if_it_had_been_stepped(client):
    left, right = (turning(client.start, 2 * CHUNK, degrees) for degrees in (-2, 2))
    more = turning(right[-1], CHUNK, 1)
    futures = client.imagine([left, right], encoding="png", frames="last", keep=True)
    shown = client.frames()
    camera = client.commit(futures[1])
    np.testing.assert_allclose(camera.pose, right[-1], atol=1e-6)
    assert camera.time == pytest.approx(2 * CHUNK / 15)
    wait_until(lambda: len(shown) >= 2 * CHUNK, "the committed frames")
    goes_on = stepped(client, more)
    client.reset("procedural", seed=5)
    expected = stepped(client, right)
    assert difference(np.stack([frame.image for frame in shown[: 2 * CHUNK]]), expected) <= LEVELS
    np.testing.assert_allclose([frame.pose for frame in shown[: 2 * CHUNK]], right, atol=1e-6)
    stamps = [frame.stamp for frame in shown]
    assert stamps == sorted(set(stamps))
    assert difference(goes_on, stepped(client, more)) <= 4 * LEVELS


def test_a_commit_is_answered_with_the_stamp_of_the_frame_that_shows_it(client):
    path = turning(client.start, 2 * CHUNK, 2)
    (future,) = client.imagine([path], frames="last", keep=True)
    for frames in (CHUNK, 2 * CHUNK):
        shown = client.frames()
        answer = client._call(Commit, "commit", Commit.Request(id=future.id, frames=frames))
        wait_until(lambda shown=shown, frames=frames: len(shown) >= frames, "committed frames")
        assert time_to_nanoseconds(answer.pose.header.stamp) == shown[frames - 1].stamp
        np.testing.assert_allclose(shown[frames - 1].pose, path[frames - 1], atol=1e-6)


def test_a_part_of_a_future_ends_where_a_chunk_ends(client):
    path = turning(client.start, 2 * CHUNK, 2)
    (future,) = client.imagine([path], keep=True)
    with pytest.raises(SimulatorError, match="accepted: 9, 18, or 0 for all 18"):
        client.commit(future, 5)
    camera = client.commit(future, CHUNK)
    assert camera.time == pytest.approx(CHUNK / 15)
    np.testing.assert_allclose(camera.pose, path[CHUNK - 1], atol=1e-6)
    assert client.commit(future).time == pytest.approx(2 * CHUNK / 15)  # and then all of it


def test_futures_are_kept_until_the_next_ones_or_another_world(client):
    path = [turning(client.start, CHUNK, 2)]
    (plain,) = client.imagine(path)
    assert plain.id == ""
    (first,) = client.imagine(path, keep=True)
    client.imagine(path)  # without keep: nothing is forgotten
    (second,) = client.imagine(path, keep=True)
    with pytest.raises(SimulatorError, match=f"no future '{first.id}'"):
        client.commit(first)
    client.reset("procedural", seed=6)
    with pytest.raises(SimulatorError, match="kept are none"):
        client.commit(second)
    with pytest.raises(SimulatorError, match="no future ''"):
        client.commit("")


def test_what_was_imagined_in_the_world_before_is_not_kept(client):
    path = [turning(client.start, CHUNK, 2)]
    goal = client.start_imagining(
        [turning(client.start, 4 * CHUNK, 1)] * 20, frames="last", keep=True
    )
    wait_until(lambda: goal.progress, "progress")
    assert goal.progress.frames_done < goal.progress.frames_total
    client.reset("procedural", seed=6)
    (new,) = client.imagine(path, keep=True, priority=1)
    late = goal.result(60)[0]
    with pytest.raises(SimulatorError, match=f"no future '{late.id}'; kept is {new.id}"):
        client.commit(late)
    client.commit(new)


def test_a_commit_leaves_what_is_being_imagined_in_its_world(client):
    (first,) = client.imagine([turning(client.start, CHUNK, 2)], keep=True)
    goal = client.start_imagining(
        [turning(client.start, 4 * CHUNK, 1)] * 20, frames="last", keep=True
    )
    wait_until(lambda: goal.progress, "progress")
    client.commit(first)
    assert client.commit(goal.result(60)[0]).time == pytest.approx(4 * CHUNK / 15)


def test_cancelling_ends_a_goal_and_the_next_one_is_served(client):
    goal = client.start_imagining([turning(client.start, 180, 0.1)] * 60, frames="last")
    wait_until(lambda: goal.progress, "progress")
    goal.cancel()
    with pytest.raises(SimulatorError, match="canceled"):
        goal.result(30)
    assert goal.progress.frames_done < goal.progress.frames_total
    assert client.imagine([turning(client.start, CHUNK, 1)])


def test_a_goal_of_higher_priority_overtakes(client):
    long = client.start_imagining([turning(client.start, 180, 0.1)] * 20, frames="last")
    wait_until(lambda: long.progress, "progress")
    client.imagine([turning(client.start, CHUNK, 1)], priority=1)
    assert long.progress.frames_done < long.progress.frames_total
    long.cancel()


def test_stepping_goes_on_while_a_goal_runs(client):
    goal = client.start_imagining([turning(client.start, 180, 0.1)] * 60, frames="last")
    wait_until(lambda: goal.progress, "progress")
    assert len(stepped(client, turning(client.start, CHUNK, 1))) == CHUNK
    assert goal.progress.frames_done < goal.progress.frames_total
    goal.cancel()


def not_a_number() -> Path:
    message = path_message(np.tile(np.eye(4), (3, 1, 1)))
    message.poses[1].pose.position.y = float("nan")
    return message


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        ([], {}, "no candidate paths"),
        ([not_a_number()], {}, "path 0: pose 1: position"),
        ([path_message([np.eye(4)])], {}, "path 0 has one pose"),
        ([path_message([np.eye(4)] * 2)] * 10_000, {}, "10000 candidates; at most 64"),
        ([path_message([np.eye(4)] * 2)], {"state": "atlantis"}, "no state 'atlantis'"),
        ([path_message([np.eye(4)] * 99)] * 60, {"encoding": "rgb8"}, "would fit: .*the last fr"),
    ],
    ids=["none", "nan", "one pose", "10000", "unknown state", "too large"],
)
def test_bad_goals_are_answered_with_the_reason(client, process, paths, options, message):
    with pytest.raises(SimulatorError, match=message):
        client.imagine(paths, **options)
    assert process.alive
    assert len(stepped(client, turning(client.start, CHUNK, 1))) == CHUNK


def test_a_client_that_dies_takes_its_goal_with_it(client, process):
    before = len(process.log)
    spinner = NodeSpinner("mayfly")
    action = ActionClient(spinner.node, Rollout, f"{NAMESPACE}/hydra_simulator/rollout")
    assert action.wait_for_server(30)
    paths = [path_message(turning(client.start, 1400, 0.1))] * 60
    sent = action.send_goal_async(Rollout.Goal(paths=paths, frames=Rollout.Goal.FRAMES_LAST))
    wait_until(sent.done, "an accepted goal")
    # The other client listens to the feedback too, so it has to leave as well.
    client._rollout.destroy()
    spinner.close(action.destroy)
    wait_until(lambda: process.logged("the client is gone", before), "an abandoned goal", 30)
    client._rollout = ActionClient(client._node, Rollout, f"{NAMESPACE}/hydra_simulator/rollout")
    assert client.imagine([turning(client.start, CHUNK, 1)], timeout=60)


def test_the_client_works_on_a_node_that_is_spun_already(client):
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("users_own", context=context, namespace=NAMESPACE)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ended = threading.Event()

    def spin() -> None:
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        with SimulatorClient(node=node) as own:
            own.wait_for_simulator()
            (future,) = own.imagine([turning(client.start, CHUNK, 1)], timeout=60)
            assert len(future.frames) == CHUNK
    finally:
        ended.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_a_simulator_that_is_not_there_is_named():
    with (
        SimulatorClient("/nowhere", timeout=0.5) as client,
        pytest.raises(SimulatorError, match="/nowhere/hydra_simulator/list_states was not found"),
    ):
        client.states()
