# SPDX-License-Identifier: Apache-2.0
"""The terminal a person types into: keys one by one, a status line, and everything put back."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty

from hydra_ros.teleop.keys import split_keys

SEQUENCE = 0.1  # seconds that the rest of an escape sequence may take to come
COLUMNS = 80  # of a terminal that does not say


class NoTerminal(RuntimeError):
    """There is no terminal to read keys from, or it went away."""


class Terminal:
    """Keys as they are pressed, without echo; Ctrl-C goes on interrupting.

    Reads standard input where that is a terminal, otherwise the one that the process belongs
    to: under ``ros2 launch`` too. The settings are put back on leaving, however that happens.

    Raises:
        NoTerminal: there is neither, or (on reading) it was closed.
    """

    def __init__(self) -> None:
        self._rest, self._rest_since = b"", 0.0
        self._plain = os.environ.get("TERM", "dumb") == "dumb"
        self._status = ""
        try:
            if sys.stdin.isatty():
                self._in, self._opened = sys.stdin.fileno(), False
            else:
                self._in, self._opened = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY), True
        except (OSError, ValueError, AttributeError):  # also where stdin is closed or None
            raise NoTerminal(
                "there is no terminal to read keys from; run it in one (over SSH: ssh -t), or "
                "take input:=joystick"
            ) from None
        self._out = os.open(os.ttyname(self._in), os.O_WRONLY | os.O_NOCTTY)

    def __enter__(self) -> Terminal:
        self._before = termios.tcgetattr(self._in)
        # cbreak, not raw: Ctrl-C and Ctrl-Z keep their meanings.
        tty.setcbreak(self._in)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.write("\n")
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._before)
        except (termios.error, NoTerminal):  # it is gone: nothing to put back
            pass
        os.close(self._out)
        if self._opened:
            os.close(self._in)

    def keys(self, timeout: float) -> list[str]:
        """Return the keys that came, after at most ``timeout`` seconds of waiting for one."""
        ready, _, _ = select.select([self._in], [], [], timeout)
        if not ready:
            if time.monotonic() - self._rest_since > SEQUENCE:
                self._rest = b""  # a single Escape: the key itself, no beginning of a sequence
            return []
        try:
            data = os.read(self._in, 1024)
        except OSError:
            data = b""
        if not data:
            raise NoTerminal("the terminal was closed")
        keys, self._rest = split_keys(self._rest + data)
        self._rest_since = time.monotonic()
        return keys

    def write(self, text: str) -> None:
        """Print text, lines and all."""
        try:
            os.write(self._out, text.encode(errors="replace"))
        except OSError:
            raise NoTerminal("the terminal was closed") from None

    def status(self, text: str) -> None:
        """Show one line in place of the one before; on a terminal without that, a new line."""
        if text == self._status:
            return
        self._status = text
        # A line that wraps could not be written over.
        try:
            columns = os.get_terminal_size(self._out).columns or COLUMNS
        except OSError:
            raise NoTerminal("the terminal was closed") from None
        self.write(f"{text}\n" if self._plain else f"\r{text[: columns - 1]}\x1b[K")
