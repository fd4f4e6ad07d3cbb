# SPDX-License-Identifier: Apache-2.0
import os
import pty
import sys

import pytest

from hydra_ros.teleop.terminal import NoTerminal, Terminal


@pytest.mark.parametrize(
    "use",
    [
        lambda terminal: terminal.keys(0.1),
        lambda terminal: terminal.write("text"),
        lambda terminal: terminal.status("text"),
    ],
    ids=["keys", "write", "status"],
)
def test_whatever_comes_first_says_that_the_terminal_was_closed(use, monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with Terminal() as terminal:
            os.close(master)
            with pytest.raises(NoTerminal, match="the terminal was closed"):
                use(terminal)
