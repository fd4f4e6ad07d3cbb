# SPDX-License-Identifier: Apache-2.0
"""The simulator node as a child process, with its output kept in a file."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

STOPPED_IN = 20.0  # seconds that the node gets to free its model


class NodeError(RuntimeError):
    """The node ended or cannot do what it was asked; the message says why."""


class NodeProcess:
    """Starts ``hydra_simulator`` and interrupts it at the end, as Ctrl-C would.

    Args:
        namespace: ROS namespace of the node.
        parameters: the node's parameters that are not at their defaults.
        log: file for all that the node prints.
    """

    def __init__(
        self, namespace: str, parameters: Mapping[str, str | int | float], log: Path
    ) -> None:
        self.log = log
        command = [sys.executable, "-m", "hydra_ros.simulator_node", "--ros-args"]
        command += ["-r", f"__ns:={namespace}"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={_yaml(value)}"]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the node."""
        return self._process.pid

    def check(self) -> None:
        """Raise ``NodeError`` if the node has ended."""
        code = self._process.poll()
        if code is not None:
            raise NodeError(f"the node ended early ({_code_in_words(code)}){self.last_words()}")

    def last_words(self) -> str:
        """Return ": " and the last error in the log, or its last line; "" where it is empty."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if "[ERROR]" in line or "[FATAL]" in line]
        if not lines:
            return ""
        # "[ERROR] [time] [name]: what happened"
        return ": " + (errors or lines)[-1].split("]: ", 1)[-1].strip()

    def stop(self) -> int:
        """Interrupt the node and wait until it has ended; return its exit code.

        A node that does not end in ``STOPPED_IN`` seconds is killed.
        """
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            return self._process.wait(STOPPED_IN)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def _yaml(value: str | int | float) -> str:
    # Quoted: a folder may be called "1" or "true".
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def _code_in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
