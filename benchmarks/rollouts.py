# SPDX-License-Identifier: Apache-2.0
"""What imagining in a batch gains, and what it costs the live stream.

    python benchmarks/rollouts.py --device cpu
    python benchmarks/rollouts.py --parts world      # needs no ROS

``world``: 16 candidates of 17 frames from one state, at once and one by one, in turns within one
process. ``stream``: the intervals between the frames of a realtime node, without and with goals.
``workers``: the same candidates on one worker and on several (``--workers``, needs Ray).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

CANDIDATES, FRAMES = 16, 17


class Run(NamedTuple):
    """Seconds on the clock and of the processor, seconds by part, frames of each candidate."""

    seconds: float
    processor: float
    parts: dict[str, float]
    frames: list[np.ndarray]


def paths_from(pose: np.ndarray, fps: float, candidates: int = CANDIDATES) -> list[np.ndarray]:
    """Return optical paths that fan out from an optical pose [4, 4]."""
    from hydra_ros.trajectory import drive

    return [
        drive(pose, np.array([0.0, 0.0, 0.3]), np.array([0.0, turn, 0.0]), FRAMES, 1 / fps)
        for turn in np.linspace(-0.8, 0.8, candidates)
    ]


def measure_world(model: str, device: str, batch: int, repeats: int) -> None:
    """Print seconds a candidate, batched and one by one."""
    from hydra_model.imagination import Imagination
    from hydra_model.procedural import episode
    from hydra_model.world import World

    world = World.load(model, device=device)
    video = world.config.video
    shown = episode(
        7, style=world.config.world_style, context_frames=world.config.context_frames,
        target_frames=0, height=video.height, width=video.width, fov_x=video.fov_x, fps=video.fps,
    )  # fmt: skip
    world.reset(shown.context_frames, shown.context_poses, fov_x=shown.fov_x)
    state, paths = world.state(), paths_from(world.pose, video.fps)
    batch = batch or (4 if world.device.type == "cpu" else 64)

    def run(groups: list[list[np.ndarray]]) -> Run:
        begin, busy = time.perf_counter(), time.process_time()
        parts = dict.fromkeys(("context", "sampling", "decoding"), 0.0)
        frames: list[np.ndarray] = []
        for group in groups:
            work = Imagination(world, state, group, batch=batch)
            for _ in work.slices():
                pass
            parts = {name: parts[name] + seconds for name, seconds in work.seconds.items()}
            frames += [future.frames for future in work.results()]
        return Run(time.perf_counter() - begin, time.process_time() - busy, parts, frames)

    run([paths[:2]])  # warm
    together, single = [], []
    for _ in range(repeats):
        together.append(run([paths]))
        single.append(run([[path] for path in paths]))
    levels = max(
        int(np.abs(a.astype(int) - b).max())
        for a, b in zip(together[0].frames, single[0].frames, strict=True)
    )
    print(f"{world.config.name} on {world.device}, {CANDIDATES} candidates of {FRAMES} frames")
    best = [min(runs, key=lambda run: run.seconds) for runs in (together, single)]
    for name, one in zip((f"batches of {batch}", "single calls"), best, strict=True):
        parts = ", ".join(f"{part} {value:.2f}" for part, value in one.parts.items())
        print(
            f"  {name:14} {one.seconds:6.2f} s, {one.seconds / CANDIDATES:.3f} s a candidate "
            f"({parts}); {one.processor:.2f} s of the processor"
        )
    print(
        f"  ratio {best[1].seconds / best[0].seconds:.2f}, of the processor "
        f"{best[1].processor / best[0].processor:.2f}; largest difference {levels} levels"
    )


def measure_stream(model: str, device: str, seconds: float, output: Path) -> None:
    """Print the intervals of a realtime node's frames, without and with goals."""
    from hydra_ros.client import SimulatorClient
    from hydra_ros.demo.node_process import NodeProcess

    namespace = f"/rollouts_{os.getpid()}"
    parameters = {"model": model, "device": device, "mode": "realtime"}
    with (
        NodeProcess(namespace, parameters, output / "node.log"),
        SimulatorClient(namespace) as client,
    ):
        client.wait_for_simulator(300)
        start = client.reset("procedural", 7).pose
        motion = paths_from(np.eye(4), 15.0)

        def watch(busy: bool) -> None:
            frames = client.frames()
            begin, goals, times = time.monotonic(), 0, []
            goal = None
            while time.monotonic() - begin < seconds:
                if busy and goal is None:
                    goal = client.start_imagining(motion, relative=True, frames="last")
                if (
                    goal
                    and goal.progress
                    and goal.progress.frames_done == goal.progress.frames_total
                ):
                    goal.result(60)
                    goals, goal = goals + 1, None
                if len(frames) > len(times):
                    times.append(time.monotonic())
                time.sleep(0.001)
            done = goal.progress.frames_done if goal and goal.progress else 0
            if goal:
                goal.cancel()
            gaps = np.diff(times) * 1000
            print(
                f"  {'with' if busy else 'without'} goals: {len(times) / seconds:5.2f} Hz, "
                f"interval median {statistics.median(gaps):.0f} ms, "
                f"99% {np.percentile(gaps, 99):.0f} ms, "
                f"longest {gaps.max():.0f} ms; {goals * CANDIDATES * FRAMES + done} frames imagined"
            )

        print(f"realtime stream on {device}, each for {seconds:g} s, camera at {start[:3, 3]}")
        time.sleep(3)
        watch(False)
        watch(True)


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", default="world,stream")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=0, help="widest batch; 0: as the node")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("output/rollouts"))
    options = parser.parse_args()
    parts = options.parts.split(",")
    if "world" in parts:
        measure_world(options.model, options.device, options.batch, options.repeats)
    if "stream" in parts:
        measure_stream(options.model, options.device, options.seconds, options.output)
    if "workers" in parts:
        from rollouts_workers import measure_workers

        measure_workers(
            options.model, options.device, options.batch, options.repeats, options.workers
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
