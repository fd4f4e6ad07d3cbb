# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros replay``: the way a robot went, seen by the simulator."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from hydra_ros.cli.arguments import check_namespace, check_seed
from hydra_ros.cli.extras import require

if TYPE_CHECKING:
    from hydra_ros.progress import ProgressReport
    from hydra_ros.recording.bag import Bag
    from hydra_ros.recording.tracks import Track

HELP = "drive the simulator along the poses or odometry of a bag and write what it shows"

FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="rosbag2 folder, .mcap, .db3 or .bag (ROS 1) file")
    parser.add_argument(
        "--topic", help="PoseStamped, PoseWithCovarianceStamped, Odometry or Path; the only one "
        "of these in the bag, if not given",
    )  # fmt: skip
    parser.add_argument(
        "--optical", action="store_true",
        help="the poses are of an optical frame (z forward), not of a body (x forward)",
    )  # fmt: skip
    parser.add_argument(
        "--frame", help="fixed frame to bring the poses into, by the bag's transforms (/tf); the "
        "one they are in, if not given, which must not move",
    )  # fmt: skip
    parser.add_argument(
        "--world", action="store_true",
        help="take the poses as they stand in the simulator's world, not as a motion from where "
        "its camera is",
    )  # fmt: skip
    parser.add_argument("--source", default="", help="world to start: procedural, or a clip")
    parser.add_argument("--seed", type=int, default=0, help="its seed (0: as configured)")
    parser.add_argument("--prompt", default="", help="its caption")
    parser.add_argument("--fps", type=float, help="frames a second (the model's own)")
    parser.add_argument(
        "--output", type=Path,
        help="folder for the bag of frames, and with .mp4 the video (BAG_replay beside the bag)",
    )  # fmt: skip
    parser.add_argument("--timeout", type=float, default=120.0, help="longest wait, in seconds")
    where = parser.add_argument_group("the simulator: one that runs, or one of its own")
    where.add_argument("--namespace", default="/", help="where it is")
    where.add_argument("--start", action="store_true", help="start one, and end it afterwards")
    where.add_argument("--model", default="default", help="with --start: weights")
    where.add_argument("--device", default="auto", help="with --start: auto, cpu, cuda, ...")


def run(options: argparse.Namespace) -> int:
    """Replay; 0, or 1 when the simulator fails or cannot be found."""
    require("bags", "mcap", "rosbags")
    if options.fps is not None and not options.fps > 0:
        raise ValueError(f"--fps is {options.fps}; it must be above 0")
    check_seed(options.seed)
    check_namespace(options.namespace)
    from hydra_ros.progress import ProgressReport
    from hydra_ros.recording.bag import Bag
    from hydra_ros.recording.tracks import read_track

    output = options.output or options.bag.parent / f"{options.bag.stem}_replay"
    video = output.parent / f"{output.name}.mp4"
    for path in (output, video):
        if path.exists():
            raise ValueError(f"{path} exists already; give another --output")
    with ProgressReport() as report:
        report.stage(f"Reading {options.bag}")
        with Bag(options.bag) as bag:
            topic = options.topic or _only_topic(bag)
            track = read_track(bag, topic, optical=options.optical, frame=options.frame)
            if bag.recovered is not None:
                report.say(f"{options.bag} was cut short: {bag.recovered} messages are readable")
        if track.skipped:
            report.say(f"{track.skipped} poses of {topic} left out: their stamps do not increase")
        if track.unplaced:
            report.say(f"{track.unplaced} poses of {topic} left out: no transform at their times")
        return _drive(options, track, output, video, report)


def _only_topic(bag: Bag) -> str:
    from hydra_ros.recording.tracks import POSE_TYPES

    topics = bag.of_type(*POSE_TYPES)
    if len(topics) == 1:
        return topics[0]
    listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(bag.topics.items()))
    what = f"several topics of poses: {', '.join(topics)}" if topics else "no topic of poses"
    raise ValueError(f"{bag.path} has {what}; give --topic; it has {listed or 'no topics'}")


class _Interrupts:
    """Ctrl-C and SIGTERM, which end a replay where it waits; the second one at once.

    A KeyboardInterrupt that is raised while rclpy's bindings convert a value comes out as another
    error.
    """

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if one was asked for."""
        if self._asked:
            self._asked = False
            raise KeyboardInterrupt

    def _ask(self, number: int, frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


def _drive(
    options: argparse.Namespace, track: Track, output: Path, video: Path, report: ProgressReport
) -> int:
    from hydra_ros.demo.node_process import NodeError, NodeProcess
    from hydra_ros.recording.link import SimulatorLink, with_changes
    from hydra_ros.recording.replay import Replay, replay

    stage, frames = "", 0

    interrupts = _Interrupts()

    def progress(text: str, done: int, total: int) -> None:
        nonlocal stage, frames
        interrupts.check()
        if text != stage:
            stage = text
            report.stage(text, total or None)
        frames = done
        report.update(frames)

    def waiting() -> None:
        interrupts.check()
        if node:
            node.check()
        report.update(frames)

    node = None
    try:
        with ExitStack() as stack:
            namespace = options.namespace
            if options.start:
                report.stage("Starting a simulator and loading its model")
                namespace = f"/hydra_replay_{os.getpid()}"
                parameters = {
                    "model": options.model, "device": options.device, "start_source": "none"
                }  # fmt: skip
                log = output.parent / f"{output.name}.log"
                node = stack.enter_context(NodeProcess(namespace, parameters, log))
            else:
                report.stage(f"Looking for the simulator in {namespace}")
            link = stack.enter_context(SimulatorLink(namespace, options.timeout, waiting))
            link.connect()
            source = options.source or ("procedural" if options.start else "")
            done = replay(
                Replay(
                    track=track,
                    fps=with_changes(link.video_form(), options.fps, None).fps,
                    source=source,
                    seed=options.seed,
                    prompt=options.prompt,
                    as_they_stand=options.world,
                    bag=output,
                    video=video,
                    frame_timeout=options.timeout,
                    own_simulator=options.start,
                ),
                link,
                progress,
            )
    except (NodeError, TimeoutError) as error:
        reason = str(error)
        if node and node.last_words() not in reason:
            reason += node.last_words()
        print(f"hydra-ros replay: {reason}", file=sys.stderr)
        return FAILED
    report.say(f"{done.frames} frames of {done.world}")
    report.say(f"Bag: {output}")
    report.say(f"Video: {video}")
    return 0
