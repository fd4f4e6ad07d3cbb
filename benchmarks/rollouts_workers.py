# SPDX-License-Identifier: Apache-2.0
"""The part ``workers`` of rollouts.py: the same candidates on one worker and on several."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Run(NamedTuple):
    """Seconds on the clock, of the processor by worker, and frames of each candidate."""

    seconds: float
    processor: list[float]
    frames: list[np.ndarray]


def measure_workers(model: str, device: str, batch: int, repeats: int, workers: int) -> None:
    """Print the seconds of the same candidates on one worker and on ``workers``, in turns.

    Each time workers are started anew and do a warming batch, which is not counted. Where other
    programs want the processors too, the processor's time of the busiest worker says what the
    clock cannot.
    """
    from rollouts import CANDIDATES, FRAMES, paths_from

    from hydra_model.procedural import episode
    from hydra_model.workers.ray_crew import open_crew
    from hydra_model.workers.spread import BATCH, imagine
    from hydra_model.workers.worker import Recipe
    from hydra_model.world import World

    world = World.load(model, device=device)
    video = world.config.video
    shown = episode(
        7, context_frames=world.config.context_frames, target_frames=0, height=video.height,
        width=video.width, fov_x=video.fov_x, fps=video.fps,
    )  # fmt: skip
    world.reset(shown.context_frames, shown.context_poses, fov_x=shown.fov_x)
    state, paths = world.state(), paths_from(world.pose, video.fps)

    def run(count: int) -> Run:
        recipe = Recipe(model=model, device=device)
        with open_crew(recipe, workers=count, weights=world.weights) as crew:
            if not crew.wait(count, 600):
                raise SystemExit(f"only {crew.present} of {count} workers came up")
            # Narrow batches, so that each worker gets one.
            imagine(crew, world, state, paths[: 2 * count], batch=1, states=False)
            pids = [hand.pid for hand in crew.hands]
            busy, begin = [processor_seconds(pid) for pid in pids], time.perf_counter()
            futures = imagine(crew, world, state, paths, batch=batch or BATCH, states=False)
            seconds = time.perf_counter() - begin
            spent = [processor_seconds(pid) - was for pid, was in zip(pids, busy, strict=True)]
            return Run(seconds, spent, [future.frames for future in futures])

    print(
        f"{world.config.name} on {device}, {CANDIDATES} candidates of {FRAMES} frames, "
        f"{os.cpu_count()} processors"
    )
    for _ in range(repeats):
        one, several = run(1), run(workers)
        same = all(np.array_equal(a, b) for a, b in zip(one.frames, several.frames, strict=True))
        for name, result in (("1 worker", one), (f"{workers} workers", several)):
            spent = ", ".join(f"{seconds:.1f}" for seconds in result.processor)
            print(f"  {name:10} {result.seconds:6.2f} s; of the processor {spent} s")
        print(
            f"  ratio {one.seconds / several.seconds:.2f}, of the busiest worker's processor time "
            f"{max(one.processor) / max(several.processor):.2f}; frames "
            f"{'the same' if same else 'DIFFER'}; load {os.getloadavg()[0]:.1f}"
        )


def processor_seconds(pid: int) -> float:
    """Return the seconds of the processor that a process of this machine has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
