# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.drift``: quality chunk after chunk, against the truth, and its plot.

A world is observed for one clip, then imagined for many chunks in a row while the camera swings
to and fro (at 6 to 12 s a turn), so that it sees some places again and again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hydra_model.checkpoints import load_config
from hydra_model.evaluation.metrics import masked_psnr, psnr
from hydra_model.evaluation.worlds import EVALUATION_SEEDS_START
from hydra_model.memory import MemorySettings
from hydra_model.procedural.episodes import sample_worlds
from hydra_model.procedural.renderer import choose_core, render
from hydra_model.resources import weights_folder
from hydra_model.world import World

Curve = npt.NDArray[np.float64]
MEASURES = ("psnr", "background")


def measure(world: World, seed: int, chunks: int, chunk_frames: int, supersample: int) -> Curve:
    """Return PSNR and background PSNR of each chunk in dB, mean over its frames: [chunks, 2]."""
    video = world.config.video
    drawn = sample_worlds(
        seed, family="sinusoid", style=world.config.world_style, device=world.device
    )

    def show(times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, npt.NDArray[np.float64]]:
        poses = drawn.trajectories.poses(times)
        frames, ids = render(
            drawn.scenes, poses, times, video.height, video.width, video.fov_x,
            supersample=supersample,
            core=choose_core(world.device, drawn.scenes.style, compiled=False),
        )  # fmt: skip
        return frames[0], ids[0], poses[0].cpu().numpy()

    context = world.config.context_frames
    start = torch.arange(1 - context, 1, dtype=torch.float64, device=world.device) / video.fps
    frames, _, poses = show(start)
    world.reset(frames.cpu().numpy(), poses, seed=seed)
    curve = []
    for number in range(chunks):
        first = 1 + number * chunk_frames
        indices = torch.arange(first, first + chunk_frames, device=world.device)
        truth, ids, poses = show(indices.double() / video.fps)
        predicted = torch.from_numpy(world.step(poses).frames).to(truth.device)
        background = masked_psnr(predicted, truth, ids == 0)
        curve.append([psnr(predicted, truth).mean().item(), background.nanmean().item()])
    return np.array(curve)


def write(folder: Path, curves: dict[str, Curve], about: dict[str, object]) -> str:
    """Write ``drift.json``, ``drift.md`` and ``drift.png``; return the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    means = {policy: curve.mean(0) for policy, curve in curves.items()}  # [chunks, 2]
    facts = {policy: mean.round(2).tolist() for policy, mean in means.items()}
    (folder / "drift.json").write_text(json.dumps({"about": about, "mean": facts}, indent=1) + "\n")
    lines = [
        "| memory policy | measure | chunk 1 | chunk 2 | last | loss from chunk 2 to last |",
        "|---|---|---|---|---|---|",
    ]
    figure, axes = pyplot.subplots(1, len(MEASURES), figsize=(8, 3), layout="constrained")
    for policy, mean in means.items():
        for axis, name, values in zip(axes, MEASURES, mean.T, strict=True):
            axis.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=policy)
            axis.set(title=f"{name}, dB", xlabel="chunk")
            axis.grid(alpha=0.3)
            second = values[min(1, len(values) - 1)]
            figures = (values[0], second, values[-1], second - values[-1])
            cells = " | ".join(f"{value:.2f}" for value in figures)
            lines.append(f"| {policy} | {name}, dB | {cells} |")
    axes[0].legend()
    figure.savefig(folder / "drift.png", dpi=110)
    table = "\n".join(lines)
    (folder / "drift.md").write_text(f"{about}\n\n{table}\n")
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.drift", description=__doc__)
    parser.add_argument("--model", default="default", help='model folder, or "default"')
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--worlds", type=int, default=8)
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--chunk-frames", type=int, help="default: the model's longest")
    parser.add_argument("--policies", default="recent,hybrid", help="by commas")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the model's)")
    parser.add_argument("--supersample", type=int, default=2, help="rays a pixel along each axis")
    parser.add_argument("--output", type=Path, default=Path("drift"), help="folder to write")
    options = parser.parse_args(arguments)
    folder = weights_folder() if options.model == "default" else Path(options.model)
    config = load_config(folder)
    steps = options.steps or config.sampler.steps
    frames = options.chunk_frames or config.chunk_frames
    loaded = World.load(
        folder, device=options.device, sampler=dataclasses.replace(config.sampler, steps=steps)
    )
    curves: dict[str, Curve] = {}
    for policy in options.policies.split(","):
        world = World(
            config, loaded.autoencoder, loaded.transformer, sampler=loaded.sampler,
            memory=MemorySettings(policy=policy),
        )  # fmt: skip
        seeds = range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + options.worlds)
        curves[policy] = np.stack(
            [measure(world, seed, options.chunks, frames, options.supersample) for seed in seeds]
        )
        print(f"{policy} done", file=sys.stderr, flush=True)
    about = {
        "model": options.model, "device": str(loaded.device), "worlds": options.worlds,
        "chunks": options.chunks, "frames per chunk": frames, "sampling steps": steps,
    }  # fmt: skip
    print(write(options.output, curves, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
