# SPDX-License-Identifier: Apache-2.0
"""Every command in the documents calls what exists; the marked blocks really run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from docs.shell_commands import ROOT, Block, blocks, commands, problem
from ros.recording import robot_bags
from ros.recording.test_figure import write_recording

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
RUN = [block for block in BLOCKS if block.run]


def by_name(block: Block) -> str:
    return block.name


@pytest.mark.parametrize("block", BLOCKS, ids=by_name)
def test_every_command_calls_what_exists(block):
    wrong = {" ".join(words): problem(words) for words in commands(block)}
    assert {line: text for line, text in wrong.items() if text} == {}


def test_there_are_commands_that_run():
    assert len(RUN) >= 2
    assert {block.document.name for block in RUN} >= {"getting_started.md", "recording.md"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """A folder with what the documents presuppose: a robot's bag, and a recording."""
    folder = tmp_path_factory.mktemp("documents")
    robot_bags.write_bag(folder / "robot", {"/odom": robot_bags.drive(1.0)})
    write_recording(folder / "my_run")
    return folder


@pytest.mark.parametrize("block", RUN, ids=by_name)
def test_a_marked_block_runs(block, sandbox):
    shell = f"set -e\nexport PATH={Path(sys.executable).parent}:$PATH\n{block.text}"
    environment = {**os.environ, "HOME": str(sandbox)}
    done = subprocess.run(
        ["bash", "-c", shell], cwd=sandbox, env=environment, text=True, timeout=240,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def wrong(line: str) -> str | None:
    (words,) = commands(Block(ROOT / "README.md", 1, line, run=False))
    return problem(words)


@pytest.mark.parametrize(
    "line, words",
    [
        ("hydra-ros fly", "invalid choice"),
        ("hydra-ros replay bag --backwards", "--backwards"),
        ("hydra_simulator --ros-args -p colour:=red", "no parameter 'colour'"),
        ("hydra_simulator --ros-args -p mode:=fast", "accepted: lockstep, realtime"),
        ("hydra_simulator --ros-args -p clips_folder:=1", "is a string"),
        ("ros2 run hydra_ros hydra_fly", "no executable"),
        ("ros2 launch hydra_ros fly.launch.py", "no launch file"),
        ("ros2 launch hydra_ros teleop.launch.py speed:=1", "no argument 'speed'"),
        ("ros2 launch hydra_ros simulator.launch.py mode:=fast", "accepted"),
        ("ros2 topic echo /camera/depth", "/camera/depth"),
        ("ros2 service call /a hydra_ros/srv/Reset '{colour: 1}'", "no field ['colour']"),
        ("ros2 param set /hydra_simulator mode realtime", "fixed at start"),
        ("make coffee", "no target"),
        ("python benchmarks/none.py", "no file"),
        ("python -m hydra_ros.nothing", "no module"),
        ("rm -rf /", "nothing is known"),
    ],
)
def test_what_does_not_exist_is_found(line, words):
    assert words in wrong(line)


def test_python_and_shell_blocks_are_told_apart(tmp_path):
    document = ROOT / "docs" / "using_the_node.md"
    assert all("import rclpy" not in block.text for block in blocks(document))
