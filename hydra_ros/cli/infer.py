# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros infer``: videos with camera files in, videos of context and prediction out."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra_ros.cli.arguments import check_seed
from hydra_ros.threads import let_idle_threads_sleep

if TYPE_CHECKING:
    import numpy as np

    from hydra_model.config import ModelConfig, SamplerConfig
    from hydra_model.world import World
    from hydra_ros.inference import Case
    from hydra_ros.progress import ProgressReport
    from hydra_ros.starting_world import Clip

HELP = "predict from videos with camera files, without ROS"

SOME_FAILED = 2
POOR = "small default model: knows only its procedural worlds, not pictures like these"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("what to continue: a folder, or one video")
    source.add_argument(
        "--examples", type=Path,
        help="folder of N.mp4, camN.json and caption.txt with a line for each",
    )  # fmt: skip
    source.add_argument("--video", type=Path, help="video whose first frames are the context")
    source.add_argument("--cameras", type=Path, help="its camera file (JSON)")
    source.add_argument("--caption", default="", help="its caption; models without text need none")
    source.add_argument(
        "--fov", type=float,
        help="horizontal field of view of the videos in degrees, if known (the model's own if not)",
    )  # fmt: skip

    model = parser.add_argument_group("how")
    model.add_argument("--model", default="default", help="weights: 'default' or a model folder")
    model.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    model.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    model.add_argument("--steps", type=int, help="sampling steps (the model's own if not given)")
    model.add_argument(
        "--sampler-preset", default="exact", help="exact, balanced, fast or few_step"
    )
    model.add_argument("--guidance", type=float, help="guidance scale (likewise)")
    model.add_argument(
        "--tiny-decoder", type=Path,
        help="TAEHV file for Wan 2.1 that decodes instead of the autoencoder: faster, blurrier",
    )  # fmt: skip
    model.add_argument("--seed", type=int, default=0, help="seed of the noise")
    model.add_argument("--frames", type=int, help="frames to predict (as many as have poses)")

    output = parser.add_argument_group("result")
    output.add_argument(
        "--output", type=Path, default=Path("output"), help="folder for NAME_prediction.mp4"
    )
    output.add_argument(
        "--side-by-side", action="store_true", help="context and prediction beside each other"
    )
    output.add_argument(
        "--plain", action="store_true", help="only the pictures, at the model's size, no captions"
    )


def run(options: argparse.Namespace) -> int:
    """Predict every case; 0, or 2 when one or more cannot be used."""
    let_idle_threads_sleep()
    from hydra_model.checkpoints import load_config
    from hydra_model.resources import weights_folder
    from hydra_ros.inference import load_case, sampler
    from hydra_ros.progress import ProgressReport

    clips = _clips(options)
    folder = weights_folder() if options.model == "default" else Path(options.model)
    config = load_config(folder)
    chosen = sampler(
        config, steps=options.steps, guidance=options.guidance, preset=options.sampler_preset
    )
    fov_x = None if options.fov is None else math.radians(options.fov)
    world = None
    failed = []
    with ProgressReport() as report:
        for name, clip in clips.items():
            report.stage(f"{name}: reading")
            try:
                case = load_case(clip(), config, frames=options.frames, fov_x=fov_x)
            except (ValueError, FileNotFoundError) as error:
                if not options.examples:
                    raise
                failed.append(name)
                print(f"hydra-ros infer: example {name}: {error}", file=sys.stderr)
                continue
            # Only now: what is wrong with the first files is said at once.
            world = world or _load_world(options, config, chosen, report)
            _predict(world, case, options, report)
    if failed:
        print(
            f"hydra-ros infer: {len(failed)} of {len(clips)} examples could not be used: "
            f"{', '.join(failed)}",
            file=sys.stderr,
        )
    return SOME_FAILED if failed else 0


def _clips(options: argparse.Namespace) -> dict[str, Callable[[], Clip]]:
    """Return how to find each case's files, by name; what is missing shows when called."""
    from hydra_ros.inference import example_clip, example_names
    from hydra_ros.starting_world import Clip

    if options.fov is not None and not 0 < options.fov < 180:
        raise ValueError(f"--fov is {options.fov}; it must lie between 0 and 180 degrees")
    check_seed(options.seed)
    custom = (options.video, options.cameras)
    if options.examples:
        if any(custom):
            raise ValueError("give either --examples or --video with --cameras, not both")
        names = example_names(options.examples)
        return {name: partial(example_clip, options.examples, name) for name in names}
    if not all(custom):
        raise ValueError("give --examples FOLDER, or --video FILE with --cameras FILE")
    name = options.video.stem
    return {name: lambda: Clip(name, options.video, options.cameras, options.caption)}


def _load_world(
    options: argparse.Namespace, config: ModelConfig, sampler: SamplerConfig, report: ProgressReport
) -> World:
    from hydra_model.world import World

    report.stage(f"Loading the model {config.name!r}")
    world = World.load(
        options.model, device=options.device, dtype=options.dtype, seed=options.seed,
        sampler=sampler, tiny_decoder=options.tiny_decoder,
        progress=lambda *_: report.update(),
    )  # fmt: skip
    if config.name == "default":
        report.say(f"Note: {POOR}.")
    return world


def _predict(
    world: World, case: Case, options: argparse.Namespace, report: ProgressReport
) -> None:
    from hydra_model.video import write_video
    from hydra_ros.inference import predict

    report.stage(f"{case.name}: frames predicted", total=len(case.target_poses))
    started = time.monotonic()
    predicted = predict(world, case, seed=options.seed, progress=report.update)
    seconds = time.monotonic() - started
    report.stage(f"{case.name}: writing")
    path = options.output / f"{case.name}_prediction.mp4"
    warning = POOR if world.config.name == "default" else ""
    pictures = layout(
        case.context, predicted, fps=world.config.video.fps, warning=warning,
        side_by_side=options.side_by_side, plain=options.plain,
    )  # fmt: skip
    write_video(path, pictures, world.config.video.fps)
    report.say(f"{case.name}: {len(predicted)} frames in {seconds:.1f} s, written to {path}")


def layout(
    context: np.ndarray, predicted: np.ndarray, *, fps: float, warning: str,
    side_by_side: bool, plain: bool,
) -> np.ndarray:
    """Return the frames of the video, from context and prediction uint8 [T, H, W, 3].

    One after the other, or beside each other (the shorter one then stays on its last frame);
    with captions and, above them, the ``warning``, unless ``plain``.
    """
    import numpy as np

    from hydra_model import pictures

    if not plain:
        parts = []
        for name, frames, first in (
            ("context", context, 1 - len(context)), ("prediction", predicted, 1),
        ):  # fmt: skip
            times = (np.arange(len(frames)) + first) / fps
            captions = [f"{name} {time:+.1f} s" for time in times]
            shown = pictures.enlarged(frames, min_width=480)
            parts.append(pictures.captioned(shown, captions))
        context, predicted = parts
    if side_by_side:
        length = max(len(context), len(predicted))
        last = [np.minimum(np.arange(length), len(part) - 1) for part in (context, predicted)]
        result = pictures.side_by_side(context[last[0]], predicted[last[1]])
    else:
        result = np.concatenate([context, predicted])
    return pictures.titled(result, warning) if warning and not plain else result
