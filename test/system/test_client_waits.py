# SPDX-License-Identifier: Apache-2.0
"""A program that is started together with the simulator waits until there is a world."""

import numpy as np
import pytest
from system.simulator import SimulatorProcess

import small_models
from hydra_ros.client import SimulatorClient
from hydra_ros.imagining import SimulatorError


@pytest.fixture
def start(tmp_path):
    """Start a simulator without waiting for anything."""
    small_models.write_model(tmp_path / "tiny")
    started = []

    def begin(namespace: str, **parameters) -> None:
        parameters = {"model": tmp_path / "tiny", "device": "cpu", **parameters}
        started.append(SimulatorProcess(parameters, namespace))

    yield begin
    for process in started:
        process.end()


def test_it_can_imagine_as_soon_as_the_simulator_is_there(start):
    start("/cold", playback_speed=0.0)
    with SimulatorClient("/cold") as client:
        client.wait_for_simulator()
        (future,) = client.imagine([np.tile(np.eye(4), (2, 1, 1))], relative=True)
    assert len(future.frames) == 2


def test_without_a_world_of_its_own_it_is_there_to_be_reset(start):
    start("/empty", start_source="none")
    with SimulatorClient("/empty") as client:
        client.wait_for_simulator()
        client.reset("procedural", seed=3)


def test_one_that_was_not_activated_is_named_with_its_state(start):
    start("/idle", autostart=False)
    with (
        SimulatorClient("/idle") as client,
        pytest.raises(TimeoutError, match="'/idle/hydra_simulator' is unconfigured"),
    ):
        client.wait_for_simulator(10.0)


def turned(degrees: float, frames: int) -> np.ndarray:
    poses = np.tile(np.eye(4), (frames, 1, 1))
    angles = np.radians(np.linspace(degrees / frames, degrees, frames))
    poses[:, 0, 0] = poses[:, 1, 1] = np.cos(angles)
    poses[:, 1, 0], poses[:, 0, 1] = np.sin(angles), -np.sin(angles)
    return poses


def test_frames_of_an_earlier_command_are_not_taken_for_those_of_a_step(start):
    start("/late")
    with SimulatorClient("/late") as client:
        client.wait_for_simulator()
        begun = client.reset("procedural", seed=3)
        with pytest.raises(TimeoutError, match=r"of 34 frames came, and then none for 0\.02 s"):
            client.step(begun.pose @ turned(30, 34), timeout=0.02)
        frames = client.step(turned(-10, 17), relative=True)
        expected = begun.pose @ turned(30, 34)[-1] @ turned(-10, 17)
        assert np.allclose([frame.pose for frame in frames], expected, atol=1e-5)
        (future,) = client.imagine([turned(40, 17)], relative=True, keep=True)
        live = client.commit(future)
        frames = client.step(turned(10, 17), relative=True)
        expected = live.pose @ turned(10, 17)
        assert np.allclose([frame.pose for frame in frames], expected, atol=1e-5)


@pytest.mark.parametrize("state", ["", "kept"])
def test_what_is_given_up_at_once_is_not_computed(start, state):
    start("/given_up", playback_speed=0.0)
    with SimulatorClient("/given_up") as client:
        client.wait_for_simulator()
        client.save("kept")
        goal = client.start_imagining([turned(30, 77)] * 12, relative=True, state=state)
        goal.cancel()
        # Served after the other, if that is computed after all.
        client.imagine([turned(1, 2)], relative=True, priority=-1)
        assert not goal.progress or goal.progress.frames_done < goal.progress.frames_total
        with pytest.raises(SimulatorError, match="canceled"):
            goal.result(60.0)
