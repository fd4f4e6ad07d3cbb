# SPDX-License-Identifier: Apache-2.0
"""Rollouts of the real node on two workers: as the planner sees them, and when one is killed."""

import os
import signal
import time

import numpy as np
import pytest
from system.drives import difference, stepped, turning
from system.simulator import wait_until

import small_models
from hydra_model.workers.ray_crew import ray_installed
from hydra_ros.client import SimulatorClient, SimulatorError

pytestmark = pytest.mark.skipif(not ray_installed(), reason="Ray is not installed")

NAMESPACE = "/rollouts_workers"
CHUNK = 9  # of the tiny model
LEVELS = 2  # products of a batch, and of other threads, are rounded otherwise


@pytest.fixture(scope="module")
def process(start_simulator, tmp_path_factory):
    model = tmp_path_factory.mktemp("tiny")
    small_models.write_model(model)
    parameters = {"model": model, "dtype": "float32", "playback_speed": 0.0, "workers": 2}
    with start_simulator(NAMESPACE, **parameters) as started:
        process = started.process
        wait_until(lambda: process.logged("imagined by 2 workers"), "workers", 180)
        yield process


@pytest.fixture
def client(process):
    with SimulatorClient(NAMESPACE) as client:
        client.wait_for_simulator()
        client.start = client.reset("procedural", seed=5).pose
        yield client


def worker_pids(process) -> list[int]:
    """Processes of the node that Ray calls by the actor's name."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline") as file:
                command = file.read()
            if command.startswith("ray::RayWorker") and process.pid in ancestors(int(name)):
                found.append(int(name))
        except OSError:
            continue
    return found


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        with open(f"/proc/{pid}/stat") as file:
            pid = int(file.read().rsplit(")", 1)[1].split()[1])
        found.append(pid)
    return found


@pytest.mark.slow
def test_futures_are_those_of_stepping_and_can_be_committed(client):
    left, right = (turning(client.start, 2 * CHUNK, degrees) for degrees in (-2, 2))
    told = []
    futures = client.imagine([left, right], encoding="png", keep=True, on_progress=told.append)
    assert [progress.frames_done for progress in told] == [2 * CHUNK, 4 * CHUNK]
    camera = client.commit(futures[1])
    np.testing.assert_allclose(camera.pose, right[-1], atol=1e-6)
    more = turning(right[-1], CHUNK, 1)
    goes_on = stepped(client, more)
    client.reset("procedural", seed=5)
    assert difference(futures[1].frames, stepped(client, right)) <= LEVELS
    assert difference(goes_on, stepped(client, more)) <= 4 * LEVELS


def test_a_goal_survives_its_worker(client, process):
    paths = [turning(client.start, 4 * CHUNK, degrees) for degrees in np.linspace(-2, 2, 16)]
    expected = client.imagine(paths, encoding="png", frames="last", timeout=120)
    before = len(process.log)
    killed = []

    def kill(progress) -> None:
        if not killed:
            killed.extend(worker_pids(process))
            os.kill(killed[0], signal.SIGKILL)

    futures = client.imagine(paths, encoding="png", frames="last", timeout=120, on_progress=kill)
    assert len(killed) == 2
    for a, b in zip(futures, expected, strict=True):
        assert np.array_equal(a.frames, b.frames)
    assert len(process.logged("was lost", before)) <= 1  # it may have been without work just then


def test_cancelling_ends_a_goal_and_the_next_one_is_served(client):
    goal = client.start_imagining([turning(client.start, 1400, 0.1)] * 16, frames="last")
    wait_until(lambda: goal.progress, "progress")
    assert len(stepped(client, turning(client.start, CHUNK, 1))) == CHUNK  # not in its way
    goal.cancel()
    with pytest.raises(SimulatorError, match="canceled"):
        goal.result(60)
    assert goal.progress.frames_done < goal.progress.frames_total
    assert client.imagine([turning(client.start, CHUNK, 1)], timeout=60)


def test_the_workers_end_with_the_node(process):
    workers = worker_pids(process)
    assert workers
    assert process.interrupt(signal.SIGTERM) == 0  # as a supervisor ends it
    end = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < end
        time.sleep(0.1)
