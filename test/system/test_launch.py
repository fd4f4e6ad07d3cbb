# SPDX-License-Identifier: Apache-2.0
"""Real `ros2 launch`, where it is installed: two simulators at once, the demo, exit codes."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from system.simulator import Client, path_message, wait_until

import small_models
from hydra_ros.environment import share_folder

pytest.importorskip("launch_ros", reason="the launch tooling is not installed")
pytest.importorskip("ros2launch", reason="the launch tooling is not installed")
if shutil.which("ros2") is None:
    pytest.skip("the launch tooling is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment in which ROS finds the package and its executables, as they stand."""
    try:
        if os.path.exists(f"{get_package_prefix('hydra_ros')}/lib/hydra_ros/hydra_teleop"):
            return dict(os.environ)
    except (PackageNotFoundError, KeyError):
        pass
    pytest.skip("hydra_ros is not installed where AMENT_PREFIX_PATH leads")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small_model")
    small_models.write_model(folder)
    return folder


def launch_command(name: str, **arguments) -> list[str]:
    path = share_folder("launch", f"{name}.launch.py")
    given = [f"{key}:={value}" for key, value in arguments.items()]
    return [sys.executable, shutil.which("ros2"), "launch", str(path), *given]


@contextlib.contextmanager
def launched(environment, log, name: str, **arguments):
    """A launch file that runs, in a process group of its own as a shell would start it."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            launch_command(name, **arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
        # As Ctrl-C does: to every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
        text = log.read_text()
        assert "has died" not in text and "Traceback" not in text, text
    except BaseException:
        print(log.read_text())
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def test_two_namespaces_at_once_do_not_hear_each_other(environment, model, tmp_path):
    common = {"model": model, "device": "cpu", "params_file": "planner"}
    with contextlib.ExitStack() as stack:
        clients = {}
        for seed, namespace in enumerate(("left", "right"), 1):
            log = tmp_path / f"{namespace}.log"
            given = {**common, "namespace": namespace, "seed": seed}
            stack.enter_context(launched(environment, log, "simulator", **given))
            clients[namespace] = Client(f"/{namespace}")
            stack.callback(clients[namespace].close)
        for client in clients.values():
            client.wait_connected()
            assert client.reset().success
        starts = {name: client.reset().start_pose for name, client in clients.items()}
        assert starts["left"].header.frame_id == "left/map"
        step = np.eye(4)
        step[0, 3] = 0.1
        for name, count in (("left", 5), ("right", 3)):
            clients[name].path_cmd.publish(path_message([step] * count, f"{name}/camera_link"))
        left = clients["left"].wait_frames(5)
        right = clients["right"].wait_frames(3)
        assert not np.array_equal(left[:3], right)  # seeds 1 and 2: each its own world
        for name, client in clients.items():
            assert {image.header.frame_id for image in client.images} == {
                f"{name}/camera_optical_frame"
            }


def test_the_demo_drives_the_camera_by_itself(environment, model, tmp_path):
    given = {"model": model, "device": "cpu", "namespace": "shown"}
    with launched(environment, tmp_path / "demo.log", "demo", **given):
        client = Client("/shown")
        try:
            client.wait_connected()

            def turned() -> bool:
                poses = client.poses and client.shown_poses()
                return len(poses) > 1 and np.abs(poses[-1] - poses[0])[:3, :3].max() > 0.1

            wait_until(turned, "turning camera")
        finally:
            client.close()


def ended(environment, name: str, **arguments) -> tuple[int, str]:
    """Return exit code and log of a launch that ends by itself."""
    done = subprocess.run(
        launch_command(name, **arguments), env=environment, text=True, timeout=120,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_a_planner_that_fails_ends_the_simulator_and_is_an_error_of_the_launch(
    environment, model, tmp_path
):
    given = {"model": model, "device": "cpu", "namespace": "failing"}
    code, log = ended(environment, "planner", goal=tmp_path / "none.png", **given)
    assert code == 1, log
    assert "none.png is no picture that can be read" in log
    assert re.search(r"\bplanner-\d failed with exit code 2$", log, re.MULTILINE), log
    assert re.search(r"hydra_simulator-\d\]: process has finished cleanly", log), log


def test_a_planner_that_is_done_ends_the_launch_without_an_error(environment, model, tmp_path):
    goal = tmp_path / "goal.png"
    cv2.imwrite(str(goal), np.full((48, 80, 3), 90, np.uint8))
    given = {"model": model, "device": "cpu", "namespace": "planning"}
    code, log = ended(
        environment, "planner", goal=goal, legs=1, candidates=3, iterations=1, **given
    )
    assert code == 0, log
    assert "leg 0: " in log and "has died" not in log


def test_a_demo_whose_keyboard_is_missing_is_an_error_of_the_launch(environment, model):
    given = {"model": model, "device": "cpu", "namespace": "keyless"}
    code, log = ended(environment, "demo", drive="keyboard", **given)
    assert code == 1, log
    assert re.search(r"hydra_teleop-\d failed with exit code 3$", log, re.MULTILINE), log
