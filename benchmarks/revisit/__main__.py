# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.revisit``: policies side by side on episodes that leave and come back."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.revisit.contest import CONTESTANTS, Contest, coverage_records
from benchmarks.revisit.episodes import FAMILIES, GAPS, make_episodes
from benchmarks.revisit.report import markdown, write
from benchmarks.revisit.truth import render_truth
from hydra_model.checkpoints import load_config
from hydra_model.procedural.renderer import choose_core
from hydra_model.resources import weights_folder
from hydra_model.world import World

_QUICK = {
    "families": ("look_away", "crossing"), "gaps": (5.0, 15.0),
    "worlds": 1, "steps": 2, "supersample": 1,
}  # fmt: skip
_SHOWN_AT = 2.5  # seconds into the target: the moment on the strip
_SMALL = (48, 80)  # height and width of pictures that nobody looks at


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    folder = weights_folder() if options.model == "default" else Path(options.model)
    config = load_config(folder)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    contest = None
    if not options.coverage_only:
        sampler = dataclasses.replace(config.sampler, steps=options.steps or config.sampler.steps)
        world = World.load(folder, device=device, sampler=sampler)
        contest = Contest(world, options.policies, imagined=options.imagined)
    rendering: dict[str, Any] = {
        "supersample": 1 if options.coverage_only else options.supersample,
        "device": device,
        "core": choose_core(device, config.world_style, compiled=False),
    }
    if options.coverage_only:
        rendering |= {"size": _SMALL, "every_frame": False}
    records: list[dict[str, Any]] = []
    strips: dict[float, dict[str, npt.NDArray[np.uint8]]] = {}
    began = time.monotonic()
    for gap in options.gaps:
        for family in options.families:
            episodes = make_episodes(config, family, gap, options.worlds)
            for episode in episodes:
                truth = render_truth(episode, config, **rendering)
                if contest is None:
                    found = coverage_records(config, episode, truth, options.policies)
                    records.extend(found.values())
                    continue
                results = contest.run(episode, truth)
                records.extend(record for record, _ in results.values())
                if gap not in strips:
                    moment = min(round(_SHOWN_AT * config.video.fps), config.chunk_frames - 1)
                    strips[gap] = {
                        "seen at first": truth.frames[config.context_frames // 2],
                        "truth": truth.frames[episode.history + moment],
                        **{name: frames[moment] for name, (_, frames) in results.items()},
                    }
            print(
                f"{family}, gap {gap:g} s: {len(episodes)} episodes, "
                f"{time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True,
            )  # fmt: skip
    about = {
        "commit": _commit(), "model": options.model, "device": device,
        "history": "imagined" if options.imagined else "observed",
        "worlds per family and gap": options.worlds,
        "sampling steps": None if contest is None else sampler.steps,
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    write(options.output, records, about, strips)
    print(markdown(records, about))
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.revisit", description=__doc__)
    parser.add_argument("--model", default="default", help='model folder, or "default"')
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--worlds", type=int, default=16, help="worlds per family and gap")
    parser.add_argument("--gaps", type=_numbers, default=GAPS, help="seconds, by commas")
    parser.add_argument("--families", type=_names(FAMILIES), default=FAMILIES, help="by commas")
    parser.add_argument("--policies", type=_names(CONTESTANTS), default=CONTESTANTS)
    parser.add_argument("--steps", type=int, help="sampling steps (default: the model's)")
    parser.add_argument(
        "--imagined", action="store_true", help="observe the first clip only, imagine the rest"
    )
    parser.add_argument(
        "--coverage-only", action="store_true",
        help="measure what is selected, and predict nothing: independent of the weights",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="a few episodes, under two minutes")
    parser.add_argument("--supersample", type=int, default=2, help="rays a pixel along each axis")
    parser.add_argument("--output", type=Path, default=Path("revisit"), help="folder to write")
    if parser.parse_known_args(arguments)[0].quick:
        parser.set_defaults(**_QUICK)
    return parser.parse_args(arguments)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _names(accepted: tuple[str, ...]) -> Any:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in accepted:
                raise argparse.ArgumentTypeError(f"{name!r}; accepted: {', '.join(accepted)}")
        return names

    return parse


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
        cwd=Path(__file__).parent, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
