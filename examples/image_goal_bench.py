#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How often image-goal navigation arrives, in procedural worlds where the truth is known.

Each episode is a world by its seed and a goal picture that its true renderer takes from a pose
within reach. The planner of ``image_goal_navigation.py`` drives there against a straight line
and a random drive. After each leg it observes what is truly seen on it; with ``--blind`` it has
its imagination alone. ``--oracle`` lets it imagine with the true renderer: that measures the
planner without the model.

    python3 examples/image_goal_bench.py --oracle --episodes 30
    python3 examples/image_goal_bench.py --episodes 10 --candidates 8 --iterations 2
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from image_goal_navigation import FPS, VIEW_EVERY, Plan, Planner, Views, drive_leg, driven

from hydra_model.cameras import intrinsics
from hydra_model.checkpoints import load_config
from hydra_model.imagination import wanted_frames
from hydra_model.procedural import Episode, episode
from hydra_model.resources import weights_folder
from hydra_ros.client import SimulatorClient
from hydra_ros.conversions import body_to_optical, optical_to_body
from hydra_ros.demo.node_process import NodeProcess

NEAR = 0.3  # metres from the goal's pose
ALIGNED = math.radians(15)
LEGS = 3  # that may be driven
LEG = Planner.leg_frames
FAMILY = "look_away"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A world, where the drive begins, and where and what its goal is; body poses [4, 4]."""

    world: Episode
    start: np.ndarray
    goal: np.ndarray
    picture: np.ndarray


@dataclass(kw_only=True)
class Drive:
    """What was driven: poses after each leg."""

    poses: list[np.ndarray] = field(default_factory=list)

    def error(self, goal: np.ndarray) -> tuple[float, float]:
        """Return the metres and radians between its end and a pose."""
        end = self.poses[-1]
        cosine = (np.trace(end[:3, :3].T @ goal[:3, :3]) - 1) / 2
        metres = float(np.linalg.norm(end[:3, 3] - goal[:3, 3]))
        return metres, math.acos(min(max(cosine, -1.0), 1.0))


def make_task(seed: int, planner: Planner, size: tuple[int, int], style: str) -> Task:
    """Return the task of a seed: a goal two legs away, by a drive that the seed draws.

    ``style`` is that of the worlds that the simulator's model knows.
    """
    height, width = size
    world = episode(
        seed, family=FAMILY, style=style, target_frames=0, height=height, width=width,
        supersample=1,
    )  # fmt: skip
    start = optical_to_body(world.context_poses[-1])
    random = np.random.default_rng([seed, 1])
    speeds = random.uniform(0.2, planner.max_speed, 2)
    # Turned by 17 to 60 degrees all in all, so that a straight line does not arrive.
    turns = random.choice([-1, 1]) * random.uniform(0.13, 0.46, 2)
    goal = planner.path(start, np.stack([speeds, turns], axis=1))[-1]
    return Task(world=world, start=start, goal=goal, picture=true_frames(world, [goal], 2 * LEG)[0])


def true_frames(
    world: Episode, poses: Sequence[np.ndarray], frames: int | np.ndarray
) -> np.ndarray:
    """Return what is really seen from body poses [N, 4, 4], ``frames`` [N] after the start."""
    times = np.full(len(poses), np.asarray(frames) / FPS)
    return world.render(body_to_optical(np.stack(poses)), times)[0]


@dataclass(frozen=True, kw_only=True)
class TrueViews:
    """What is really seen along a path, as the planner wants it."""

    frames: np.ndarray
    indices: np.ndarray
    intrinsics: np.ndarray


Method = Callable[[Task, np.random.Generator], Drive]


def oracle(planner: Planner) -> Method:
    """Return the planner with the true renderer for imagination."""

    def drive(task: Task, random: np.random.Generator) -> Drive:
        driven = Drive(poses=[task.start])
        plan: Plan | None = None
        for leg in range(LEGS):

            def imagine(paths: Sequence[np.ndarray], leg: int = leg) -> list[Views]:
                indices = wanted_frames(len(paths[0]), VIEW_EVERY)
                after = leg * LEG + np.tile(indices + 1, len(paths))
                poses = [path[index] for path in paths for index in indices]
                frames = true_frames(task.world, poses, after).reshape(
                    len(paths), len(indices), *task.picture.shape
                )
                height, width = task.picture.shape[:2]
                camera = intrinsics(width, height, task.world.fov_x)
                return [TrueViews(frames=one, indices=indices, intrinsics=camera) for one in frames]

            now = dataclasses.replace(planner, legs=max(planner.legs - leg, 1))
            plan = now.plan(imagine, driven.poses[-1], task.picture, random, plan)
            driven.poses.append(plan.path[planner.leg_frames - 1])
        return driven

    return drive


def through_the_simulator(planner: Planner, client: SimulatorClient, *, blind: bool) -> Method:
    """Return the planner with the simulator for imagination, over ROS."""

    def drive(task: Task, random: np.random.Generator) -> Drive:
        start = client.reset("procedural", task.world.seed).pose
        if not np.allclose(start, task.start, atol=1e-6):
            raise SystemExit(f"the simulator's world {task.world.seed} is not the one of the goal")
        driven = Drive(poses=[task.start])
        plan: Plan | None = None
        for leg in range(LEGS):

            def robot(path: np.ndarray, leg: int = leg) -> np.ndarray:
                after = leg * LEG + np.arange(1, len(path) + 1)
                return true_frames(task.world, list(path), after)

            now = dataclasses.replace(planner, legs=max(planner.legs - leg, 1))
            plan = now.plan(
                lambda paths: client.imagine(paths, frames=VIEW_EVERY),
                driven.poses[-1], task.picture, random, plan,
            )  # fmt: skip
            path = plan.path[: planner.leg_frames]
            driven.poses.append(drive_leg(client, path, None if blind else robot))
        return driven

    return drive


def straight(planner: Planner) -> Method:
    """Return the baseline that drives ahead at half speed for two legs."""

    def drive(task: Task, random: np.random.Generator) -> Drive:
        metres = planner.max_speed / 2 * LEG / FPS
        first = driven(task.start, metres, 0.0)
        return Drive(poses=[task.start, first, driven(first, metres, 0.0)])

    return drive


def at_random(planner: Planner) -> Method:
    """Return the baseline that draws its legs as the planner draws its first candidates."""

    def drive(task: Task, random: np.random.Generator) -> Drive:
        low, high = (0.0, -planner.max_turn), (planner.max_speed, planner.max_turn)
        path = planner.path(task.start, random.uniform(low, high, (2, 2)))
        ends = [path[planner.leg_frames - 1], path[-1]]
        return Drive(poses=[task.start, *ends])

    return drive


@contextmanager
def simulator(model: str, device: str, log: Path) -> Iterator[SimulatorClient]:
    """Start a simulator node of its own, and a client of it."""
    namespace = f"/image_goal_{os.getpid()}"
    parameters = {
        "model": model, "device": device, "playback_speed": 0.0, "start_source": "none",
        "procedural_family": FAMILY,
    }  # fmt: skip
    with NodeProcess(namespace, parameters, log), SimulatorClient(namespace) as client:
        client.wait_for_simulator(120)
        yield client


def plot(task: Task, drives: dict[str, Drive], file: Path) -> None:
    """Draw one episode from above, with what is seen at the start, the goal and each end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, 3 + len(drives), figsize=(3.2 * (4 + len(drives)), 3), layout="constrained",
        width_ratios=[2.0] + [1.0] * (2 + len(drives)),
    )  # fmt: skip
    above = axes[0]
    for name, drive in drives.items():
        points = np.stack([pose[:2, 3] for pose in drive.poses])
        above.plot(points[:, 0], points[:, 1], marker="o", label=name)
        end = drive.poses[-1]
        above.arrow(*end[:2, 3], *(0.15 * end[:2, 0]), head_width=0.03)
    above.plot(*task.goal[:2, 3], marker="*", markersize=14, color="black", label="goal")
    above.arrow(*task.goal[:2, 3], *(0.15 * task.goal[:2, 0]), head_width=0.03, color="black")
    above.set(aspect="equal", title=f"world {task.world.seed} from above (m)")
    above.margins(0.25)
    above.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    pictures = {"start": true_frames(task.world, [task.start], 0)[0], "goal": task.picture}
    for name, drive in drives.items():
        pictures[name] = true_frames(task.world, [drive.poses[-1]], 2 * LEG)[0]
    for axis, (name, picture) in zip(axes[1:], pictures.items(), strict=True):
        axis.imshow(picture)
        axis.set(title=name, xticks=[], yticks=[])
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def table(errors: dict[str, list[tuple[float, float]]]) -> str:
    """Return the results in Markdown."""
    lines = ["| method | reached | mean distance | mean angle |", "|---|---|---|---|"]
    for name, pairs in errors.items():
        reached = sum(metres < NEAR and angle < ALIGNED for metres, angle in pairs)
        metres, angle = np.mean(pairs, axis=0)
        lines.append(
            f"| {name} | {reached} of {len(pairs)} | {metres:.2f} m "
            f"| {math.degrees(angle):.0f} deg |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the episodes and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--oracle", action="store_true", help="imagine with the true renderer")
    parser.add_argument("--blind", action="store_true", help="observe nothing on the way")
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--candidates", type=int, default=Planner.candidates)
    parser.add_argument("--iterations", type=int, default=Planner.iterations)
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path("output/image_goal"))
    options = parser.parse_args(arguments)
    planner = Planner(candidates=options.candidates, iterations=options.iterations)
    folder = weights_folder() if options.model == "default" else options.model
    style = load_config(folder).world_style
    with ExitStack() as stack:
        if options.oracle:
            name, size, method = "planner, true renderer", (24, 40), oracle(planner)
        else:
            log = options.output / "node.log"
            client = stack.enter_context(simulator(options.model, options.device, log))
            name, size = "planner, simulator", (96, 160)
            method = through_the_simulator(planner, client, blind=options.blind)
        methods = {name: method, "straight": straight(planner), "random": at_random(planner)}
        errors: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
        for seed in range(options.first_seed, options.first_seed + options.episodes):
            started = time.monotonic()
            task = make_task(seed, planner, size, style)
            drives = {
                name: drive(task, np.random.default_rng([seed, 2]))
                for name, drive in methods.items()
            }
            for name, drive in drives.items():
                errors[name].append(drive.error(task.goal))
            if seed == options.first_seed:
                shown = make_task(seed, planner, (96, 160), style)
                plot(shown, drives, options.output / "episode.png")
            said = ", ".join(
                f"{n} {e[-1][0]:.2f} m {math.degrees(e[-1][1]):.0f} deg" for n, e in errors.items()
            )
            print(f"world {seed}: {said} ({time.monotonic() - started:.1f} s)", flush=True)
    print(table(errors))
    return 0


if __name__ == "__main__":
    sys.exit(main())
