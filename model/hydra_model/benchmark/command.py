# SPDX-License-Identifier: Apache-2.0
"""The command behind ``hydra-ros bench`` and ``python -m hydra_model.benchmark``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

HELP = "measure how fast a model runs here, each way to run it beside the readable one"

PARTS = ("forward", "autoencoder", "chunk", "team", "profile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="default",
        help='"default", a model folder, "full-size" (the released sizes with made-up weights: '
        'needs a GPU with 24 GB) or "miniature" (the same form, very small)',
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="auto", help="auto, float32, bfloat16 or float16")
    parser.add_argument(
        "--parts", type=_words, default=PARTS[:3], help=f"by commas, of {', '.join(PARTS)}"
    )
    parser.add_argument("--variants", type=_words, default=(), help="only these forwards")
    parser.add_argument(
        "--chunk-variant", default="", help="what chunks run by (default: the fastest exact one)"
    )
    parser.add_argument(
        "--presets", type=_words, default=("exact", "balanced", "fast", "few_step"),
        help="sampler presets that chunks are measured with, by commas",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=3, help="the median of so many is shown")
    parser.add_argument("--chunk-repeats", type=int, default=1, help="likewise, of chunks")
    parser.add_argument(
        "--gpus", type=int, default=2, help="for the part team, which needs a made-up model"
    )
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--plot", type=Path, help="draw them here (PNG; needs matplotlib)")


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables, then write the files. Wrong input is a ``ValueError``."""
    for part in options.parts:
        if part not in PARTS:
            raise ValueError(f"unknown part {part!r}; accepted: {', '.join(PARTS)}")
    if min(options.repeats, options.chunk_repeats) < 1:
        raise ValueError("--repeats and --chunk-repeats are 1 or more")
    from hydra_model.benchmark import report, runs
    from hydra_model.benchmark.decoding import run_autoencoder
    from hydra_model.benchmark.subjects import load_subject
    from hydra_model.benchmark.variants import READABLE, variants
    from hydra_model.sampler_presets import sampler_preset

    for file in filter(None, (options.json, options.plot)):
        report.check_file(file)
    if options.plot:
        report.check_plot(options.plot)
    world = load_subject(options.model, device=options.device, dtype=options.dtype)
    for preset in options.presets:
        sampler_preset(preset, world.config.sampler)
    known = {variant.name: variant for variant in variants(world.transformer, world.device)}
    wanted = options.chunk_variant or next(
        (name for name in ("exact", "cpu blocks", "fast") if name in known), READABLE
    )
    if wanted not in known:
        raise ValueError(f"unknown variant {wanted!r}; accepted here: {', '.join(known)}")
    variants(world.transformer, world.device, options.variants)
    results = runs.Results()
    runs.describe(world, results)
    if "forward" in options.parts:
        runs.run_forwards(world, results, repeats=options.repeats, only=options.variants)
    if "autoencoder" in options.parts:
        run_autoencoder(world, results, repeats=options.repeats)
    if "chunk" in options.parts:
        runs.run_chunks(
            world, known[wanted], results, options.presets, repeats=options.chunk_repeats
        )
    if "team" in options.parts:
        runs.run_team(
            world, results, *_team(options, world.device, world.transformer.head.linear.weight),
            repeats=options.repeats,
        )  # fmt: skip
    # Before writing: a full disk must not take what was measured.
    print(report.text(results), flush=True)
    if options.json:
        report.write_json(results, options.json)
    if options.plot:
        report.plot(results, options.plot)
    if "profile" in options.parts:
        print("\n" + "\n".join(runs.run_profile(world, known[wanted])))
    return 0


def _team(options: argparse.Namespace, device: torch.device, like: torch.Tensor) -> Any:
    from hydra_model.benchmark.subjects import GENERATED, GeneratedEngine
    from hydra_model.fast.acceleration import Acceleration, available
    from hydra_model.loading import team_devices

    if options.model not in GENERATED:
        raise ValueError(f"the part team measures made-up models: {', '.join(GENERATED)}")
    on_gpu = device.type == "cuda"
    devices = team_devices(device, options.gpus) if on_gpu else [device] * options.gpus
    switches = available(Acceleration(), device)
    return GeneratedEngine(options.model, like.dtype, switches), devices


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
