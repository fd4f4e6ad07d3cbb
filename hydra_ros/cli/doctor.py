# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros doctor``: says what of this machine is ready for the simulator."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = "check this machine: PyTorch, GPU, weights, ROS 2, DDS, video"

_COLOURS = {"ok": "\033[32m", "warn": "\033[33m", "fail": "\033[31m"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layout", type=Path, metavar="FILE",
        help="check only whether this layout is one of RViz 2 or Foxglove, and of this version",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print a line per check; 0 when the simulator can run, 1 otherwise.

    With ``--layout``: 0 when it fits or does not say for what version it is, 2 otherwise.
    """
    if options.layout:
        return _check_layout(options.layout)
    from hydra_ros.health import check_all

    failed = []
    for name, finding in check_all():
        level = f"{finding.level:<4}"
        if sys.stdout.isatty():
            level = f"{_COLOURS[finding.level]}{level}\033[0m"
        print(f"{level}  {name:<13}  {' '.join(finding.text.split())}", flush=True)
        if finding.hint:
            print(f"{'':21}{finding.hint}", flush=True)
        if finding.level == "fail":
            failed.append(name)
    if failed:
        print(f"\nThe simulator cannot run: {', '.join(failed)}.")
        return 1
    print("\nThe simulator can run.")
    return 0


def _check_layout(path: Path) -> int:
    from hydra_ros.layouts import VERSION, identify, layout_file

    program, version = identify(layout_file(str(path)))
    if version is None:
        print(f"{path} is for {program}; it does not say for what version: this one is {VERSION}.")
    else:
        print(f"{path} is for {program}, and of this version ({VERSION}).")
    return 0
