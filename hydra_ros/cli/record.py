# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros record``: what a simulator is told and what it shows, into a bag."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from hydra_ros.cli.extras import require

HELP = "record commands, frames and memory of a running simulator to a bag (MCAP)"

NOTHING = 1
LOOK_EVERY = 0.25  # s


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
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from hydra_ros.progress import ProgressReport
    from hydra_ros.recording.recorder import TOPICS, Recorder
    from hydra_ros.recording.writer import BagWriter

    output = options.output or Path(time.strftime("hydra_%Y%m%d-%H%M%S"))
    image = "camera/image_raw/compressed" if options.compressed else "camera/image_raw"
    topics = {*TOPICS, *options.topics} - {"camera/image_raw"} | {image}
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    # Both: a shell starts what runs in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        node = rclpy.create_node("hydra_record", namespace=options.namespace)
        image = node.resolve_topic_name(image)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        with BagWriter(output) as writer, ProgressReport() as report:
            recorder = Recorder(node, writer, tuple(topics))
            report.stage(f"Messages recorded to {output} (Ctrl-C ends it)")
            started, looked = time.monotonic(), 0.0
            try:
                while not _enough(options, time.monotonic() - started, writer.counts, image):
                    if time.monotonic() - looked > LOOK_EVERY:
                        looked = time.monotonic()
                        recorder.look()
                    executor.spin_once(timeout_sec=0.1)
                    report.update(sum(writer.counts.values()))
            except KeyboardInterrupt:
                pass
    finally:
        rclpy.try_shutdown()
    return _print(writer.counts, recorder.unknown, output)


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
