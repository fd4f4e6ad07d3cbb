# SPDX-License-Identifier: Apache-2.0
"""Every command in the documents calls what exists, and is run or has a reason why not."""

import re

import pytest
from docs.shell_commands import DOCUMENTS, ROOT, Block, blocks, commands, documented, problem

from docs import plan

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]


def by_name(block: Block) -> str:
    return block.name


@pytest.mark.parametrize("block", BLOCKS, ids=by_name)
def test_every_command_calls_what_exists(block):
    wrong = {" ".join(words): problem(words) for words in commands(block)}
    assert {line: text for line, text in wrong.items() if text} == {}


def test_every_command_is_run_or_has_a_reason_why_not():
    run = set(plan.commands_run())
    neither = [
        (block.name, command)
        for block in BLOCKS
        for command in map(" ".join, commands(block))
        if command not in run and not plan.reason_not_to_run(command)
    ]
    assert neither == []  # to be put into ENDING, SIMULATORS, LAUNCHED or NOT_RUN in plan.py


def test_no_command_is_run_and_excused():
    assert [command for command in plan.commands_run() if plan.reason_not_to_run(command)] == []


def test_what_is_run_and_what_is_excused_stands_in_the_documents():
    found = documented()
    assert [command for command in plan.commands_run() if command not in found] == []
    unused = [
        pattern
        for pattern in plan.NOT_RUN
        if not any(re.fullmatch(pattern, command) for command in found)
    ]
    assert unused == []


def test_the_tests_that_stand_in_are_there():
    paths = {path for reason in plan.NOT_RUN.values() for path in reason.tests}
    assert [path for path in sorted(paths) if not (ROOT / "test" / path).exists()] == []


def wrong(line: str) -> str | None:
    (words,) = commands(Block(ROOT / "README.md", 1, line))
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
