# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros demo``: look away from a subject and come back, through a real node over DDS."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from hydra_ros.threads import let_idle_threads_sleep

if TYPE_CHECKING:
    from hydra_ros.demo.demonstration import Outcome

HELP = "look away from a moving subject and come back: prediction against ground truth"

FAILED = 1
FIRST_SEED = 1_000_000_000  # worlds from here on are kept out of training
DEFAULT_FRAMES = 77
MOST_FRAMES = 1500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=int, default=FIRST_SEED,
        help="show the first world from this number on in which a subject leaves and returns",
    )  # fmt: skip
    parser.add_argument("--model", default="default", help="weights: 'default' or a model folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--frames", type=int, default=DEFAULT_FRAMES, help="frames to predict (15 are one second)"
    )
    parser.add_argument("--steps", type=int, default=0, help="sampling steps; 0: the model's own")
    parser.add_argument(
        "--output", type=Path, default=Path("output"), help="folder for demo.mp4 and demo.png"
    )
    parser.add_argument(
        "--realtime", action="store_true",
        help="let time follow the wall clock, instead of advancing with the commands",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=float, default=300.0, help="longest wait for the node, in seconds"
    )


def run(options: argparse.Namespace) -> int:
    """Run the demonstration; 0, or 1 when the node fails or nothing arrives."""
    if not 1 <= options.frames <= MOST_FRAMES:
        raise ValueError(f"--frames is {options.frames}; accepted: 1 to {MOST_FRAMES}")
    if not 0 <= options.seed < 2**62:
        raise ValueError(f"--seed is {options.seed}; accepted: 0 to {2**62 - 1}")
    if options.steps < 0:
        raise ValueError(f"--steps is {options.steps}; it must be 0 or more")
    if not options.timeout > 0:
        raise ValueError(f"--timeout is {options.timeout:g}; it must be above 0")

    let_idle_threads_sleep()
    from hydra_ros.demo.demonstration import Demonstration, demonstrate
    from hydra_ros.demo.node_process import NodeError
    from hydra_ros.progress import ProgressReport

    demonstration = Demonstration(
        **{field.name: getattr(options, field.name) for field in fields(Demonstration)}
    )
    started = time.monotonic()
    try:
        with _ended_by_sigterm(), ProgressReport() as report:
            outcome = demonstrate(demonstration, report)
    except (NodeError, TimeoutError) as error:
        print(f"hydra-ros demo: {error}", file=sys.stderr)
        print(f"The node's log is {demonstration.log}", file=sys.stderr)
        return FAILED
    _print(outcome, time.monotonic() - started)
    if outcome.node_exit_code:
        print(
            f"hydra-ros demo: the node did not end cleanly (exit code {outcome.node_exit_code}), "
            f"its log is {demonstration.log}",
            file=sys.stderr,
        )
        return FAILED
    return 0


def _print(outcome: Outcome, total: float) -> None:
    print(
        f"{outcome.received} frames received over DDS, the first "
        f"{outcome.first_frame_after:.1f} s after the command"
    )
    print(
        f"PSNR against the ground truth {outcome.psnr:.2f} dB "
        f"(the last seen frame, repeated: {outcome.psnr_of_last_frame:.2f} dB)"
    )
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in outcome.seconds.items())
    print(f"Times: {seconds}; in all {total:.1f} s")
    print(f"Video: {outcome.video}")
    print(f"Contact sheet: {outcome.sheet}")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Make SIGTERM end this command as Ctrl-C does, so that it ends the node too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
