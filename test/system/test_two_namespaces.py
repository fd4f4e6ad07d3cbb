# SPDX-License-Identifier: Apache-2.0
"""Two simulators at once, each in a namespace with a client of its own."""

import contextlib
import signal

import numpy as np
import pytest
from system.simulator import Client, SimulatorProcess, path_message

import small_models
from hydra_ros.client import SimulatorClient

NAMESPACES = ("left", "right")


@pytest.fixture(scope="module")
def simulators(tmp_path_factory):
    """Process and client of each, with frames named as simulator.launch.py names them."""
    model = tmp_path_factory.mktemp("model")
    small_models.write_model(model)
    with contextlib.ExitStack() as stack:
        started = {}
        for seed, name in enumerate(NAMESPACES, 1):
            parameters = {
                "model": model, "device": "cpu", "seed": seed, "playback_speed": 0.0,
                "world_frame": f"{name}/map", "camera_frame": f"{name}/camera_link",
                "optical_frame": f"{name}/camera_optical_frame",
            }  # fmt: skip
            process = SimulatorProcess(parameters, f"/{name}")
            stack.callback(process.end)
            client = Client(f"/{name}")
            stack.callback(client.close)
            started[name] = (process, client)
        for _, client in started.values():
            client.wait_connected()
            assert client.reset(timeout=240.0).success  # two models are being loaded
        yield started


def test_each_hears_only_its_own_commands_and_shows_its_own_world(simulators):
    for (name, (_, client)), count in zip(simulators.items(), (5, 3), strict=True):
        step = np.eye(4)
        step[0, 3] = 0.1
        client.path_cmd.publish(path_message([step] * count, f"{name}/camera_link"))
    (_, left), (_, right) = simulators.values()
    frames = [left.wait_frames(5), right.wait_frames(3)]
    assert not np.array_equal(frames[0][:3], frames[1])  # another seed is another world


def test_frames_have_names_of_their_own(simulators):
    for name, (_, client) in simulators.items():
        assert {image.header.frame_id for image in client.images} == {
            f"{name}/camera_optical_frame"
        }
        assert {pose.header.frame_id for pose in client.poses} == {f"{name}/map"}


def test_relative_paths_need_no_name_of_a_frame(simulators):
    path = np.tile(np.eye(4), (2, 1, 1))
    for name in NAMESPACES:
        with SimulatorClient(f"/{name}") as client:
            (future,) = client.imagine([path], relative=True)
            shown = client.step(path, relative=True)
        assert len(future.frames) == len(shown) == 2


def test_an_interrupt_that_comes_twice_ends_both_cleanly(simulators):
    # As `ros2 launch` does it: Ctrl-C reaches a node from the terminal and from the launch tool.
    for process, _ in simulators.values():
        process.send_signal(signal.SIGINT)
        assert process.interrupt() == 0, process.log[-5:]
        assert not process.logged("Traceback")
