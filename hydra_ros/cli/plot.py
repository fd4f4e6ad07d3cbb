# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros plot``: a recording in one picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from hydra_ros.cli.extras import require

HELP = "draw the way, the speed and the memory of a recording"

FORMATS = (".png", ".svg", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", type=Path, help="bag of `hydra-ros record`")
    parser.add_argument("--output", type=Path, help="picture to write (RECORDING.png beside it)")
    parser.add_argument("--namespace", help="of the simulator, if the recording has several")
    parser.add_argument("--thumbnails", type=int, default=8, help="how many frames to show")


def run(options: argparse.Namespace) -> int:
    """Draw; wrong recordings are a ValueError that says what they lack."""
    require("plot", "matplotlib", "mcap", "rosbags")
    output = options.output or options.recording.with_suffix(".png")
    if output.suffix not in FORMATS:
        raise ValueError(f"--output is {output}; accepted endings: {', '.join(FORMATS)}")
    if not 1 <= options.thumbnails <= 12:
        raise ValueError(f"--thumbnails is {options.thumbnails}; accepted: 1 to 12")
    from hydra_ros.progress import ProgressReport
    from hydra_ros.recording.bag import Bag
    from hydra_ros.recording.figure import draw
    from hydra_ros.recording.story import read_story

    with ProgressReport() as report:
        report.stage(f"Reading {options.recording}")
        with Bag(options.recording) as bag:
            story = read_story(bag, options.namespace, options.thumbnails)
            if bag.recovered is not None:
                report.say(f"{options.recording} was cut short; drawn as far as it goes")
        report.stage("Drawing")
        output.parent.mkdir(parents=True, exist_ok=True)
        seconds = story.times[-1]
        title = f"{options.recording.name}: {len(story.times)} frames, {seconds:.1f} s"
        draw(story, output, title)
    print(f"Picture: {output}")
    return 0
