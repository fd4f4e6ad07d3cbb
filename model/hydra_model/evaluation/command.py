# SPDX-License-Identifier: Apache-2.0
"""The command behind ``hydra-ros evaluate`` and ``python -m hydra_model.evaluation``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hydra_model.evaluation.predictors import LoadedModel

HELP = "measure a model on held-out procedural worlds against baselines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="default",
        help='model folder, "default" for the weights that come with the package, or '
        '"untrained" for random ones',
    )  # fmt: skip
    parser.add_argument("--worlds", type=int, default=256, help="number of held-out worlds")
    parser.add_argument(
        "--first-seed", type=int, default=None, help="seed of the first world (default: 10^9)"
    )
    parser.add_argument(
        "--steps",
        type=_steps,
        default=(2, 4, 8, 20),
        help="sampling step counts, by commas; the model's own is always measured",
    )
    parser.add_argument(
        "--temperature", type=float, default=None,
        help="what the noise that sampling starts from is multiplied by (the model's own)",
    )  # fmt: skip
    parser.add_argument(
        "--presets", type=lambda names: tuple(filter(None, names.split(","))), default=(),
        help="sampler presets to measure too, by commas: exact,balanced,fast,few_step",
    )  # fmt: skip
    parser.add_argument(
        "--also", action="append", default=[], metavar="MODEL",
        help="another model folder to measure on the same worlds, at its own steps, such as a "
        "distilled one",
    )  # fmt: skip
    parser.add_argument(
        "--data", default=None,
        help="a data set instead of the held-out worlds: hm-world:FOLDER or procedural:COUNT:SEED",
    )  # fmt: skip
    parser.add_argument(
        "--clip-weights", type=Path, default=None,
        help="folder of CLIP ViT-B/16 for the dynamic-subject score, with --data",
    )  # fmt: skip
    parser.add_argument(
        "--detector", type=Path, default=None,
        help="folder of an object detector (transformers) for that score's boxes in predictions",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=16, help="worlds at a time")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--family", default=None, help="one camera family instead of the mix")
    parser.add_argument(
        "--world-style", choices=("plain", "rich"), default=None,
        help="worlds to measure on instead of those that the model was trained on",
    )  # fmt: skip
    parser.add_argument(
        "--renderer", choices=("auto", "pieces", "whole", "compiled"), default="auto",
        help="how worlds are rendered; auto is one fused kernel on a GPU (whole without Triton), "
        "in pieces on a CPU; compiling takes a minute and pays from thousands of worlds on",
    )  # fmt: skip
    parser.add_argument("--shown", type=int, default=8, help="worlds on the picture sheets")
    parser.add_argument("--output", type=Path, default=Path("evaluation"), help="folder to write")


def run(options: argparse.Namespace) -> int:
    """Evaluate, print the tables, then write the report. Wrong input is a ``ValueError``."""
    if options.batch < 1:
        raise ValueError(f"batch is {options.batch}; accepted is 1 or more")
    if options.data is not None:
        return _run_on_clips(options)
    from hydra_model.config import ModelConfig
    from hydra_model.evaluation import report
    from hydra_model.evaluation.goals import goals
    from hydra_model.evaluation.predictors import ModelPredictor, load_model, untrained_model
    from hydra_model.evaluation.procedural import evaluate, evaluation_seeds, model_predictors
    from hydra_model.evaluation.worlds import EVALUATION_SEEDS_START
    from hydra_model.loading import choose_device
    from hydra_model.procedural.cores import compile_core, render_core, render_pieces
    from hydra_model.procedural.renderer import choose_core
    from hydra_model.procedural.trajectories import family_index

    if options.family is not None:
        family_index(options.family)
    start = EVALUATION_SEEDS_START if options.first_seed is None else options.first_seed
    seeds = evaluation_seeds(options.worlds, start)
    device = str(choose_device(options.device))
    model = (
        untrained_model(ModelConfig.from_name("default"), device)
        if options.model == "untrained"
        else load_model(options.model, device)
    )
    _set_temperature(model, options)
    predictors = model_predictors(model, options.steps, options.presets)
    for also in options.also:
        other = load_model(also, device)
        _set_temperature(other, options)
        count = other.config.sampler.steps
        predictors.append(ModelPredictor(f"{Path(also).name}, {count} steps", other, count))
    style = options.world_style or model.config.world_style
    cores = {
        "auto": lambda: choose_core(device, style, compiled=False),
        "pieces": lambda: render_pieces,
        "whole": lambda: render_core,
        "compiled": compile_core,
    }
    _make_folder(options.output)
    evaluation = evaluate(
        seeds,
        model.config,
        predictors,
        model=model,
        batch=min(options.batch, len(seeds)),
        device=device,
        family=options.family,
        style=style,
        core=cores[options.renderer](),
        shown=options.shown,
        on_batch=_progress,
    )
    about = {
        "model": str(options.model),
        "name": model.config.name,
        "shift": model.config.sampler.shift,
        "temperature": model.config.sampler.temperature,
        "device": device,
        "dtype": str(model.dtype).removeprefix("torch."),
        "family": options.family or "training mix",
        "worlds": style,
    }
    pictured = ModelPredictor.name_for(model.config.sampler.steps)
    aims = goals(evaluation, pictured, model.config.sampler.steps)
    # Before writing: a full disk must not take what was measured.
    print(report.markdown(evaluation, goals=aims, of=pictured), flush=True)
    folder = report.write(evaluation, options.output, pictured=pictured, about=about, goals=aims)
    print(f"written to {folder}")
    return 0


def _run_on_clips(options: argparse.Namespace) -> int:
    """Evaluate on a data set: pictures, masks, LPIPS and DSC where their weights are there."""
    from hydra_model.datasets.opening import open_clips
    from hydra_model.evaluation import clip_report
    from hydra_model.evaluation.clip_sets import clip_predictors, evaluate_clips
    from hydra_model.evaluation.dsc import open_dsc
    from hydra_model.evaluation.perceptual import open_lpips
    from hydra_model.evaluation.predictors import load_model
    from hydra_model.loading import choose_device

    device = choose_device(options.device)
    model = load_model(options.model, device, prompts=True)
    _set_temperature(model, options)
    clips = open_clips(options.data, model.config, device=str(device))
    _make_folder(options.output)
    evaluation = evaluate_clips(
        clips,
        clip_predictors(model, options.steps),
        lpips=open_lpips(device),
        dsc=open_dsc(options.clip_weights, options.detector, device),
        most=options.worlds,
        shown=options.shown,
        on_clip=_progress,
    )
    about = {"model": str(options.model), "name": model.config.name, "data": options.data}
    print(clip_report.markdown(evaluation), flush=True)
    folder = clip_report.write(evaluation, options.output, about=about)
    print(f"written to {folder}")
    return 0


def _set_temperature(model: LoadedModel, options: argparse.Namespace) -> None:
    if options.temperature is not None:
        model.set_temperature(options.temperature)


def _make_folder(folder: Path) -> None:
    """Make the folder of the report, or raise ``ValueError`` before anything is measured."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"--output {folder}: {reason}; accepted: a folder that can be made and written to"
        ) from error


def _steps(text: str) -> tuple[int, ...]:
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        steps = ()
    if not steps or min(steps) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted are numbers such as 2,4,8")
    return steps


def _progress(done: int, total: int) -> None:
    print(f"{done} of {total} worlds", file=sys.stderr, flush=True)
