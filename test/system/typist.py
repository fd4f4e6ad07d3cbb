# SPDX-License-Identifier: Apache-2.0
"""A terminal that is typed into, and ``hydra_teleop`` in it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from system.simulator import wait_until

TELEOP = [sys.executable, "-m", "hydra_ros.teleop.node", "--ros-args"]


def teleop_command(namespace: str, **parameters: Any) -> list[str]:
    """Return the command that drives a namespace."""
    given = (f"{name}:={value}" for name, value in parameters.items())
    return [*TELEOP, "-r", f"__ns:={namespace}", *(word for text in given for word in ("-p", text))]


class Typist:
    """A terminal with a program in it, and what it shows."""

    def __init__(
        self, command: list[str], *, stdin_is_terminal: bool = True, term: str = "xterm"
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.slave = slave
        self.before = termios.tcgetattr(slave)

        def take_terminal() -> None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            stdin=slave if stdin_is_terminal else subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,
            # Output is buffered, as it is for users.
            env={**os.environ, "TERM": term, "PYTHONUNBUFFERED": ""},
        )
        self.screen = b""
        self._closing = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def hold(self, key: bytes, until: Callable[[], Any], what: str) -> None:
        """Repeat a key as a terminal does until a condition holds."""

        def done() -> Any:
            self.type(key)
            time.sleep(0.03)
            return until()

        wait_until(done, what)

    def close(self) -> None:
        """Close the terminal under the process."""
        self._closing = True
        self._reader.join(5)
        os.close(self.slave)
        os.close(self._master)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._closing = True
        self._reader.join(5)
        for descriptor in (self._master, self.slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closing:
                # No read may be under way when the terminal is closed: it would keep it open.
                if select.select([self._master], [], [], 0.05)[0]:
                    self.screen += os.read(self._master, 4096)


@contextlib.contextmanager
def typing_at(command: list[str], **options: Any) -> Iterator[Typist]:
    """Run teleop in a terminal until it shows its state, and end it afterwards."""
    typist = Typist(command, **options)
    try:
        wait_until(lambda: b"now" in typist.screen or typist.process.poll() is not None, "screen")
        yield typist
    finally:
        typist.end()
