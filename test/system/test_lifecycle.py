# SPDX-License-Identifier: Apache-2.0
"""The node's states, under a lifecycle manager and at its end."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from system.simulator import path_message, pose_message, wait_until

from hydra_ros import conversions
from hydra_ros.srv import SaveState


@pytest.fixture(scope="module")
def simulator(start_simulator):
    with start_simulator(
        "/managed",
        autostart=False,
        playback_speed=5.0,
        start_source="none",
        publish_clock=True,
        sampler_steps=1,
    ) as started:
        yield started


def test_commands_and_resets_before_it_is_active_are_refused_with_a_message(simulator):
    client, process = simulator.client, simulator.process
    assert client.state == "unconfigured"
    client.pose_cmd.publish(pose_message(np.eye(4)))
    wait_until(lambda: process.logged("pose_cmd refused: the simulator is not active"), "message")
    response = client.reset("procedural")
    assert (response.success, response.message) == (False, "the simulator is not configured")
    response = client.call(SaveState, "save_state", name="early")
    assert (response.success, response.message) == (False, "the simulator is not configured")
    wait_until(lambda: client.diagnostics.get("state") == "unconfigured", "diagnostics")


def refused_transition(simulator, transition: int, label: str = "") -> str:
    """Return the one line that says why a transition was refused."""
    since = len(simulator.process.log)
    assert not simulator.client.change_state(transition, label)
    wait_until(lambda: simulator.process.logged("is not possible", since), "message")
    (line,) = simulator.process.logged("is not possible", since)
    return line


def test_a_transition_out_of_order_is_refused_with_those_that_are_possible(simulator):
    activate = Transition.TRANSITION_ACTIVATE
    line = refused_transition(simulator, activate)
    assert "transition 'activate' (3) is not possible from the state 'unconfigured'" in line
    assert "possible: 'configure' (1), 'shutdown' (5)" in line
    line = refused_transition(simulator, 0, "nonsense")
    assert "transition 'nonsense' is not possible" in line
    assert "transition 200 is not possible" in refused_transition(simulator, 200)
    assert simulator.client.state == "unconfigured"


def test_transitions_load_run_pause_and_free(simulator):
    client, process = simulator.client, simulator.process
    assert client.change_state(Transition.TRANSITION_CONFIGURE)
    assert client.state == "inactive"
    since = len(process.log)
    client.path_cmd.publish(path_message([np.eye(4)]))
    wait_until(lambda: process.logged("path_cmd refused", since), "refusal while inactive")

    assert client.change_state(Transition.TRANSITION_ACTIVATE)
    client.pose_cmd.publish(pose_message(np.eye(4)))
    wait_until(lambda: process.logged("no world was started; call ~/reset"), "refusal")
    response = client.call(SaveState, "save_state", name="early")
    assert not response.success and response.message.startswith("no world runs")
    response = client.reset("procedural", seed=1)
    assert response.success, response.message
    # Of the published clock, which counts from zero.
    assert response.start_pose.header.stamp.sec < 1000

    line = refused_transition(simulator, Transition.TRANSITION_ACTIVATE)
    assert "transition 'activate' (3) is not possible from the state 'active'" in line
    assert client.state == "active"

    # Pausing keeps what was commanded; going on gives exactly the frames that were missing.
    client.path_cmd.publish(path_message([np.eye(4)] * 53))
    wait_until(lambda: len(client.images) >= 2, "first frames")
    assert client.change_state(Transition.TRANSITION_DEACTIVATE)
    time.sleep(0.5)
    shown = len(client.images)
    time.sleep(1.0)
    assert len(client.images) == shown < 53
    assert client.change_state(Transition.TRANSITION_ACTIVATE)
    client.wait_frames(53)
    # This node is the source of time: it counts from zero, and does not count the pause.
    times = [conversions.time_to_nanoseconds(image.header.stamp) / 1e9 for image in client.images]
    np.testing.assert_allclose(times, np.arange(1, 54) / 15, atol=1e-6)
    clocks = [conversions.time_to_nanoseconds(clock.clock) / 1e9 for clock in client.clocks]
    np.testing.assert_allclose(clocks, times, atol=1e-9)

    assert client.change_state(Transition.TRANSITION_DEACTIVATE)
    assert client.change_state(Transition.TRANSITION_CLEANUP)
    assert client.state == "unconfigured"


def test_it_can_be_configured_again_and_ends_cleanly_while_it_simulates(simulator):
    client, process = simulator.client, simulator.process
    assert client.change_state(Transition.TRANSITION_CONFIGURE)
    assert client.change_state(Transition.TRANSITION_ACTIVATE)
    assert client.reset("procedural", seed=1).success
    client.path_cmd.publish(path_message([np.eye(4)] * 770))
    wait_until(lambda: client.images, "frame")
    assert process.interrupt(signal.SIGINT) == 0
    assert not process.logged("Traceback")


def test_a_model_that_is_not_there_leaves_it_unconfigured_and_alive(start_simulator):
    with start_simulator("/broken", model="/nowhere") as started:
        wait_until(lambda: started.process.logged("'/nowhere' was not loaded"), "message")
        assert started.client.state == "unconfigured"
        assert started.process.interrupt(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "mode:=fast"], "accepted: lockstep, realtime"),
        (["-p", "camera_frame:=map"], "camera_frame is 'map'"),
        (["-p", "mode:="], "-p mode:="),
        (["--params-file", "nope.yaml"], "nope.yaml"),
        (["--nonsense"], "ROS did not start with these arguments: ['--nonsense']"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line_and_exit_code_2(arguments, words):
    done = subprocess.run(
        [sys.executable, "-m", "hydra_ros.simulator_node", "--ros-args", *arguments],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    # rcl may have said a word of its own before.
    (line,) = [line for line in done.stderr.splitlines() if "[rcl]" not in line]
    assert line.startswith("hydra_simulator: ") and words in line


def test_unknown_parameters_are_named_once_with_the_nearest_and_the_node_goes_on(start_simulator):
    override = "qos_overrides./misspelt/camera/image_raw.publisher.depth"
    given = {"no_such_name": 1, "sampler_step": 1, override: 3, "autostart": False}
    with start_simulator("/misspelt", **given) as started:
        assert started.client.state == "unconfigured"
        (line,) = started.process.logged("unknown parameters are ignored")
        assert "'sampler_step' (nearest accepted: sampler_steps, " in line
        assert "'no_such_name' (nearest accepted: " in line
        assert line.count("nearest accepted") == 2
