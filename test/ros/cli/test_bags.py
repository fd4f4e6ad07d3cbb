# SPDX-License-Identifier: Apache-2.0
"""record, replay, reset and plot: wrong input is one line and exit code 2, no simulator is 1."""

import numpy as np
import pytest
from ros.recording import robot_bags

from hydra_ros.cli import extras
from hydra_ros.cli.main import main


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    messages = {
        "/odom": robot_bags.drive(1.0),
        "/pose": [robot_bags.pose_stamped(np.eye(4), float(i)) for i in range(3)],
        "/relative": [robot_bags.path([np.eye(4)] * 3, [0.0, 1.0, 2.0], "left/camera_link")],
        "/camera": [robot_bags.image(np.zeros((48, 80, 3), np.uint8), i / 15) for i in range(15)],
    }
    return robot_bags.write_bag(tmp_path_factory.mktemp("bags") / "robot", messages)


FROM_BAG = ["--from-bag", "BAG", "--image-topic", "/camera"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["replay", "nowhere"], "no bag"),
        (["replay", "BAG"], "several topics of poses: /odom, /pose"),
        (["replay", "BAG", "--topic", "/relative"], "relative to 'left/camera_link', which moves"),
        (["replay", "BAG", "--topic", "/odom", "--frame", "map"], "do not lead from 'odom' to"),
        (["replay", "BAG", "--topic", "/scan"], "no topic '/scan'; it has /camera (sensor_msgs"),
        (["replay", "BAG", "--topic", "/camera"], "is of type sensor_msgs/msg/Image; accepted"),
        (["replay", "BAG", "--fps", "0"], "--fps"),
        (["plot", "BAG"], "no recording of a simulator"),
        (["plot", "BAG", "--output", "a.txt"], "accepted endings"),
        (["record", "--duration", "-1"], "--duration"),
        (["record", "--frames", "0"], "--frames"),
        (["record", "--namespace", "9x"], "--namespace is '9x'; Invalid namespace"),
        (["reset", "--namespace", "/a//b"], "must not contain repeated '/'; accepted: names like"),
        (["reset", "--seed", "-1"], "--seed is -1; accepted: 0 to 9223372036854775807"),
        (["reset", "--seed", f"{10**23}"], "--seed is 100000000000000000000000; accepted"),
        (["replay", "BAG", "--topic", "/odom", "--seed", "-1"], "--seed is -1; accepted"),
        (["replay", "BAG", "--topic", "/odom", "--namespace", "9x"], "--namespace is '9x'"),
        (["reset", *FROM_BAG], "--pose-topic, or --odom-topic".replace(", or", " or"), ),
        (["reset", *FROM_BAG, "--odom-topic", "/a", "--pose-topic", "/b"], "one of them"),
        (["reset", *FROM_BAG, "--odom-topic", "/a", "--source", "x"], "not both"),
        (["reset", *FROM_BAG, "--odom-topic", "/a"], "has no topic"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line(arguments, words, bag, capsys):
    code = main([str(bag) if argument == "BAG" else argument for argument in arguments])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith(f"hydra-ros {arguments[0]}: ")
    assert len(error.splitlines()) == 1
    assert words in error.replace(", or --odom", " or --odom")


@pytest.mark.parametrize(
    "arguments", [["replay", "BAG", "--topic", "/odom"], ["reset"]], ids=["replay", "reset"]
)
def test_no_simulator_is_exit_code_1(arguments, bag, tmp_path, capsys):
    given = [str(bag) if argument == "BAG" else argument for argument in arguments]
    if arguments[0] == "replay":
        given += ["--output", str(tmp_path / "frames")]
    assert main([*given, "--namespace", "/nobody", "--timeout", "1"]) == 1
    assert "/nobody/hydra_simulator was not found" in capsys.readouterr().err


def test_recording_nothing_is_exit_code_1(tmp_path, capsys):
    arguments = ["record", "--namespace", "/nobody", "--duration", "0.5"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 1
    assert "nothing came" in capsys.readouterr().err


def test_an_output_that_exists_is_not_touched(bag, tmp_path, capsys):
    (tmp_path / "frames").mkdir()
    arguments = ["replay", str(bag), "--topic", "/odom", "--output", str(tmp_path / "frames")]
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_missing_extra_says_how_to_install_it():
    with pytest.raises(ValueError, match=r"no_such_module: pip install 'hydra_ros\[bags\]'"):
        extras.require("bags", "json", "no_such_module")
