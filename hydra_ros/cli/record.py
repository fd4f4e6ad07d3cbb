# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros record``: what a simulator is told and what it shows, into a bag."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hydra_ros.cli.arguments import check_namespace
from hydra_ros.cli.extras import require

if TYPE_CHECKING:
    from rclpy.executors import Executor

    from hydra_ros.recording.writer import BagWriter

HELP = "record commands, frames and memory of a running simulator to a bag (MCAP)"

NOTHING = 1
LOOK_EVERY = 0.25  # s
AT_END = 2.0  # s; for what has come when the end is asked for, on a machine that is behind
QUIET = 10  # turns of the executor without a message: it also turns for other things


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, help="folder to write; if not given, hydra_DATE-TIME here"
    )
    parser.add_argument("--namespace", default="/", help="where the simulator is")
    parser.add_argument("--duration", type=float, help="end after so many seconds")
    parser.add_argument("--frames", type=int, help="end after so many frames")
    parser.add_argument(
        "--compressed", action="store_true", help="JPEG images in place of the raw ones"
    )
    parser.add_argument(
        "--topics", nargs="+", default=[], metavar="TOPIC", help="more topics to record"
    )


def run(options: argparse.Namespace) -> int:
    """Record until Ctrl-C or a limit; 0, or 1 when no message came."""
    require("bags", "mcap")
    for name in ("duration", "frames"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"--{name} is {value}; it must be above 0")
    check_namespace(options.namespace)
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from hydra_ros.progress import ProgressReport
    from hydra_ros.recording.recorder import TOPICS, Recorder
    from hydra_ros.recording.writer import BagWriter

    output = options.output or Path(time.strftime("hydra_%Y%m%d-%H%M%S"))
    image = "camera/image_raw/compressed" if options.compressed else "camera/image_raw"
    topics = {*TOPICS, *options.topics} - {"camera/image_raw"} | {image}
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    ended = threading.Event()
    # Both: a shell starts what runs in the background with SIGINT ignored. No exception: it
    # could come between a message's parts.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        node = rclpy.create_node("hydra_record", namespace=options.namespace)
        image = node.resolve_topic_name(image)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        with BagWriter(output) as writer, ProgressReport() as report:
            recorder = Recorder(node, writer, tuple(topics))
            report.stage(f"Messages recorded to {output} (Ctrl-C ends it)")
            started, looked = time.monotonic(), 0.0
            while not ended.is_set() and not _enough(
                options, time.monotonic() - started, writer.counts, image
            ):
                if time.monotonic() - looked > LOOK_EVERY:
                    looked = time.monotonic()
                    recorder.look()
                executor.spin_once(timeout_sec=0.1)
                report.update(sum(writer.counts.values()))
            if ended.is_set():
                take_waiting(executor, writer)
    finally:
        rclpy.try_shutdown()
    return _print(writer.counts, recorder.unknown, output)


def take_waiting(executor: Executor, writer: BagWriter) -> None:
    """Write the messages that have come and were not looked at yet, for ``AT_END`` at most."""
    until, quiet = time.monotonic() + AT_END, 0
    while quiet < QUIET and time.monotonic() < until:
        before = sum(writer.counts.values())
        executor.spin_once(timeout_sec=0.0)
        quiet = 0 if sum(writer.counts.values()) > before else quiet + 1


def _enough(
    options: argparse.Namespace, seconds: float, counts: dict[str, int], image: str
) -> bool:
    return (options.duration is not None and seconds >= options.duration) or (
        options.frames is not None and counts.get(image, 0) >= options.frames
    )


def _print(counts: dict[str, int], unknown: set[str], output: Path) -> int:
    for kind in sorted(unknown):
        print(f"hydra-ros record: {kind} is not installed and was left out", file=sys.stderr)
    if not counts:
        print("hydra-ros record: nothing came: is a simulator running there?", file=sys.stderr)
        return NOTHING
    for topic, count in sorted(counts.items()):
        print(f"{count:8}  {topic}")
    print(f"Bag: {output}")
    return 0
