# SPDX-License-Identifier: Apache-2.0
"""A program that is started together with the simulator waits until there is a world."""

import numpy as np
import pytest
from system.simulator import SimulatorProcess

import small_models
from hydra_ros.client import SimulatorClient


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
