# SPDX-License-Identifier: Apache-2.0
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pytest

from hydra_model.config import ModelConfig
from hydra_ros.simulation_thread import Cancelled, FrameBatch, SimulationThread

POSES = np.tile(np.eye(4), (5, 1, 1))
START = SimpleNamespace(begin=lambda world: world.begin(POSES[-1]))


class SteppedWorld:
    """A world whose sampling waits until the test lets it go on."""

    config = ModelConfig.from_name("default")
    max_chunk_frames = 77
    memory_bytes = 0
    memory_usage = None
    ready = False

    def __init__(self) -> None:
        self.sampling = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.threads = {threading.current_thread().name}
        self.memory_size = 0
        self.time = 0.0
        self.shown = lambda: None

    def begin(self, pose):
        self.threads.add(threading.current_thread().name)
        self.ready, self.pose, self.time, self.memory_size = True, pose, 0.0, 20

    def state(self):
        return SimpleNamespace(time=self.time, fov_x=1.0)

    def step(self, poses, *, on_frames, cancelled):
        self.threads.add(threading.current_thread().name)
        self.sampling.set()
        self.go_on.wait(10)
        if cancelled():
            raise RuntimeError("whatever the world raises when it is cancelled")
        if not np.isfinite(poses).all():
            raise ValueError("poses[0] holds a number that is not finite")
        for first in range(0, len(poses), 4):
            frames = np.zeros((len(poses[first : first + 4]), 96, 160, 3), np.uint8)
            on_frames(first, frames)
            self.shown()
        self.pose, self.memory_size = poses[-1], self.memory_size + 2
        self.time += len(poses) / 15


@pytest.fixture
def thread():
    batches: list[FrameBatch] = []
    world = []

    def load(progress):
        progress()
        world.append(SteppedWorld())
        return world[0]

    simulation = SimulationThread(load, batches.append)
    simulation.loaded.result(10)
    yield SimpleNamespace(run=simulation, batches=batches, world=world[0])
    world[0].go_on.set()
    simulation.close()


def test_one_thread_does_everything_with_the_world(thread):
    thread.run.reset(START).result(10)
    thread.run.step(POSES).result(10)
    assert thread.world.threads == {"simulation"}


def test_frames_leave_with_their_poses_and_simulated_times(thread):
    thread.run.reset(START).result(10)
    poses = POSES.copy()
    poses[:, 0, 3] = np.arange(5)
    facts = [thread.run.step(poses, run=7).result(10).facts for _ in range(2)][-1]
    assert facts.time == pytest.approx(10 / 15)
    times = np.concatenate([batch.times for batch in thread.batches])
    np.testing.assert_allclose(times, np.arange(1, 11) / 15)
    shown = np.concatenate([batch.poses for batch in thread.batches])
    np.testing.assert_array_equal(shown, np.concatenate([poses, poses]))
    assert {batch.run for batch in thread.batches} == {7}


def test_a_chunk_is_committed_before_its_last_frame_is_seen(thread):
    committed = []
    simulation = SimulationThread(
        lambda progress: SteppedWorld(),
        lambda batch: committed.append(simulation.committed.state.time),
    )
    simulation.reset(START).result(10)
    simulation.step(POSES).result(10)
    simulation.close()
    assert committed == [0.0, pytest.approx(5 / 15)]


def test_cancelling_abandons_what_runs_and_what_waits_but_not_what_comes(thread):
    thread.run.reset(START).result(10)
    thread.world.go_on.clear()
    running, waiting = thread.run.step(POSES), thread.run.step(POSES)
    assert thread.world.sampling.wait(10)
    thread.run.cancel()
    later = thread.run.step(POSES)
    thread.world.go_on.set()
    assert isinstance(running.exception(10), Cancelled)
    assert isinstance(waiting.exception(10), Cancelled)
    assert later.result(10).frames == 5


def test_what_was_not_seen_can_be_abandoned_and_only_that(thread):
    thread.run.reset(START).result(10)
    thread.world.go_on.clear()
    unseen = thread.run.step(POSES)
    assert thread.world.sampling.wait(10)
    thread.run.cancel_unseen()
    thread.world.go_on.set()
    assert isinstance(unseen.exception(10), Cancelled)
    assert not thread.batches
    thread.world.shown = thread.run.cancel_unseen  # after the first frames
    assert thread.run.step(POSES).result(10).frames == 5


def test_a_reset_replaces_the_step_that_runs(thread):
    thread.run.reset(START).result(10)
    thread.world.go_on.clear()
    running = thread.run.step(POSES)
    assert thread.world.sampling.wait(10)
    reset = thread.run.reset(START)
    thread.world.go_on.set()
    assert isinstance(running.exception(10), Cancelled)
    assert reset.result(10).memory_size == 20


def test_a_failed_step_fails_its_future_and_the_next_one_works(thread):
    thread.run.reset(START).result(10)
    with pytest.raises(ValueError, match="not finite"):
        thread.run.step(POSES * np.nan).result(10)
    assert thread.run.step(POSES).result(10).facts.memory_size == 22


def test_closing_answers_everybody(thread):
    thread.run.reset(START).result(10)
    thread.world.go_on.clear()
    futures: list[Future] = [thread.run.step(POSES) for _ in range(3)]
    assert thread.world.sampling.wait(10)
    closing = threading.Thread(target=thread.run.close)
    closing.start()
    thread.world.go_on.set()
    closing.join(10)
    assert not closing.is_alive()
    assert all(isinstance(future.exception(0), Cancelled) for future in futures)


def test_a_model_that_cannot_be_loaded_says_why():
    def load(progress):
        raise ValueError("the file is truncated")

    simulation = SimulationThread(load, print)
    with pytest.raises(ValueError, match="truncated"):
        simulation.loaded.result(10)
    simulation.close()
