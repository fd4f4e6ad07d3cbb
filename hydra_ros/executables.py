# SPDX-License-Identifier: Apache-2.0
"""How the executables begin: quietly on Ctrl-C, even before anything has loaded."""

from __future__ import annotations

import importlib
import signal
import sys
from types import FrameType


def start(module: str) -> int:
    """Import a module and run its ``main``; returns the exit code.

    Loading takes seconds. Ctrl-C in them ends the program without a traceback, and without an error
    that `ros2 launch` would report; programs that have begun end in their own ways.
    """
    before = signal.signal(signal.SIGINT, _leave)
    main = importlib.import_module(module).main
    signal.signal(signal.SIGINT, before)
    return int(main())


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def hydra_simulator() -> int:
    return start("hydra_ros.simulator_node")


def hydra_web() -> int:
    return start("hydra_ros.web.main")


def hydra_teleop() -> int:
    return start("hydra_ros.teleop.node")


def hydra_ros() -> int:
    return start("hydra_ros.cli.main")
