# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros reset``: starts a world in a running simulator, also from a camera in a bag."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra_ros.cli.arguments import check_namespace, check_seed
from hydra_ros.cli.extras import require

if TYPE_CHECKING:
    from hydra_ros.progress import ProgressReport
    from hydra_ros.recording.link import SimulatorLink

HELP = "start a world in a running simulator: procedural, a clip, or a recorded camera"

FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--namespace", default="/", help="where the simulator is")
    parser.add_argument("--source", default="", help="procedural, or a clip (as configured)")
    parser.add_argument("--seed", type=int, default=0, help="seed (0: as configured)")
    parser.add_argument("--prompt", default="", help="caption of the world")
    parser.add_argument("--timeout", type=float, default=120.0, help="longest wait, in seconds")
    bag = parser.add_argument_group("from a bag")
    bag.add_argument("--from-bag", type=Path, metavar="BAG", help="bag with the camera's images")
    bag.add_argument("--image-topic", help="its Image or CompressedImage topic")
    bag.add_argument("--pose-topic", help="its PoseStamped topic with the camera's poses")
    bag.add_argument("--odom-topic", help="or its Odometry topic")
    bag.add_argument(
        "--optical", action="store_true",
        help="the poses are of an optical frame (z forward), not of a body (x forward)",
    )  # fmt: skip
    bag.add_argument(
        "--frame", help="fixed frame to bring the poses into, by the bag's transforms (/tf); the "
        "one they are in, if not given, which must not move",
    )  # fmt: skip
    bag.add_argument(
        "--at", type=float, default=0.0,
        help="begin so many seconds after the first image that has a pose",
    )  # fmt: skip
    bag.add_argument(
        "--frames", type=int, help="frames to take (the model's own number, mostly 77)"
    )
    bag.add_argument("--fps", type=float, help="at so many a second (the model's own)")
    bag.add_argument(
        "--clips-folder", type=Path,
        help="where to keep the clip that is made of it; the simulator's clips_folder is set to "
        "it (that folder, or one in your data folder)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Reset; 0, or 1 when the simulator refuses or cannot be found."""
    check_seed(options.seed)
    check_namespace(options.namespace)
    if options.from_bag:
        require("bags", "mcap", "rosbags")
        if not options.image_topic or bool(options.pose_topic) == bool(options.odom_topic):
            raise ValueError(
                "--from-bag needs --image-topic, and --pose-topic or --odom-topic (one of them)"
            )
        if options.source:
            raise ValueError("give either --source or --from-bag, not both")
        if options.at < 0:
            raise ValueError(f"--at is {options.at}; it must be 0 or more")
        _check_bag(options)
    from hydra_ros.demo.node_process import NodeError
    from hydra_ros.progress import ProgressReport
    from hydra_ros.recording.link import SimulatorLink

    try:
        with (
            ProgressReport() as report,
            SimulatorLink(options.namespace, options.timeout, report.update) as link,
        ):
            report.stage(f"Looking for the simulator in {options.namespace}")
            link.connect()
            source = options.source
            if options.from_bag:
                source = _clip_of_bag(options, link, report)
            report.stage("Starting the world")
            pose, world = link.reset(source, options.seed, options.prompt)
    except (NodeError, TimeoutError) as error:
        print(f"hydra-ros reset: {error}", file=sys.stderr)
        return FAILED
    x, y, z = pose[:3, 3]
    print(f"Started: {world}; the camera is at x {x:.3f}, y {y:.3f}, z {z:.3f} m")
    return 0


def _check_bag(options: argparse.Namespace) -> None:
    """Look for the topics, before time is spent on finding a simulator."""
    from hydra_ros.recording.bag import Bag
    from hydra_ros.recording.pictures import IMAGE_TYPES
    from hydra_ros.recording.tracks import POSE_TYPES

    with Bag(options.from_bag) as bag:
        bag.check(options.image_topic, IMAGE_TYPES)
        bag.check(options.pose_topic or options.odom_topic, POSE_TYPES)


def _clip_of_bag(options: argparse.Namespace, link: SimulatorLink, report: ProgressReport) -> str:
    """Write the clip into the simulator's clips folder and return its name."""
    from hydra_ros.recording.bag import Bag
    from hydra_ros.recording.clips import read_section, write_clip
    from hydra_ros.recording.link import with_changes
    from hydra_ros.recording.tracks import read_track

    form = with_changes(link.video_form(), options.fps, options.frames)
    if not (form.fps > 0 and form.context_frames > 1):
        raise ValueError("--fps must be above 0 and --frames above 1")
    report.stage(f"Reading {options.from_bag}")
    with Bag(options.from_bag) as bag:
        if bag.recovered is not None:
            report.say(f"{options.from_bag} was cut short: {bag.recovered} messages are readable")
        topic = options.pose_topic or options.odom_topic
        section = read_section(
            bag,
            options.image_topic,
            read_track(bag, topic, optical=options.optical, frame=options.frame),
            at=options.at,
            frames=form.context_frames,
            fps=form.fps,
        )
    configured = link.parameters(["clips_folder"])["clips_folder"]
    folder = options.clips_folder or (Path(configured) if configured else _data_folder())
    folder = folder.expanduser().absolute()
    name = re.sub(r"\W+", "_", options.from_bag.stem) or "bag"
    report.stage(f"Writing the clip {name} to {folder}")
    write_clip(folder, name, section, form.fps)
    if configured != str(folder):
        link.set_parameter("clips_folder", str(folder))
    return name


def _data_folder() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "hydra_ros" / "clips"
