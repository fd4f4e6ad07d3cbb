# SPDX-License-Identifier: Apache-2.0
"""A real node as a child process: its end is noticed, and it is ended cleanly."""

import os
import signal
import time

import pytest

from hydra_ros.demo.node_process import NodeError, NodeProcess

PARAMETERS = {"autostart": False, "model": "it's 1: a folder"}


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_interrupting_ends_the_node_with_code_0(tmp_path):
    with NodeProcess("/node_process_test", PARAMETERS, tmp_path / "new" / "node.log") as node:
        wait_until(lambda: node.log.stat().st_size > 0)
        time.sleep(1.0)
        node.check()
        assert node.stop() == 0


def test_a_node_that_was_killed_is_noticed(tmp_path):
    with NodeProcess("/node_process_test", PARAMETERS, tmp_path / "node.log") as node:
        os.kill(node.pid, signal.SIGKILL)
        wait_until(lambda: ended(node))
        with pytest.raises(NodeError, match=r"ended early \(killed by SIGKILL\)"):
            node.check()


def test_the_last_error_in_the_log_is_told(tmp_path):
    with NodeProcess("/node_process_test", {"mode": "sideways"}, tmp_path / "node.log") as node:
        wait_until(lambda: ended(node))
        with pytest.raises(NodeError, match="sideways"):
            node.check()


def ended(node: NodeProcess) -> bool:
    try:
        node.check()
    except NodeError:
        return True
    return False
