# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros``: finds the subcommand, loads only that one and runs it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from hydra_ros.environment import use_dds_profile

# In the order in which the help shows them. Each is a module beside this one with HELP (one
# line), add_arguments(parser) and run(arguments) -> exit code; what is slow to import (torch,
# rclpy) is imported inside run.
COMMANDS = (
    "demo", "infer", "reset", "record", "replay", "plot", "convert", "prepare", "train", "evaluate",
    "bench", "doctor",
)  # fmt: skip

WRONG_INPUT = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code.

    Wrong input (ValueError, or a file that cannot be read) is one line on stderr and exit
    code 2; with ``--traceback`` it is raised. Ctrl-C gives 130.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _build_parser(arguments).parse_args(arguments)
    use_dds_profile()
    try:
        return int(options.run(options) or 0)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, OSError) as error:
        if options.traceback:
            raise
        print(f"hydra-ros {options.command}: {_one_line(error)}", file=sys.stderr)
        return WRONG_INPUT


def available_commands() -> tuple[str, ...]:
    folder = Path(__file__).parent
    return tuple(name for name in COMMANDS if (folder / f"{name}.py").is_file())


def _build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hydra-ros", description="A world model with hybrid memory as a ROS 2 simulator."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    parser.add_argument(
        "--traceback", action="store_true", help="show where in the program an error came from"
    )
    subparsers = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    available = available_commands()
    for name in (wanted,) if wanted in available else available:
        command = importlib.import_module(f"hydra_ros.cli.{name}")
        subparser = subparsers.add_parser(
            name,
            help=command.HELP,
            description=command.HELP,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _version() -> str:
    try:
        return metadata.version("hydra_ros")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
