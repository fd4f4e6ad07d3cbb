#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Image-goal navigation: drive until the camera sees the goal picture.

The planner imagines candidate paths through the simulator's ``~/rollout`` action, scores the
last imagined frame of each against the goal, narrows its candidates down by the cross-entropy
method, commits the first leg of the best, and plans again from there. Where a robot drives along,
what its camera saw on the leg takes the place of what was imagined. It is a client like any
other: nothing here knows the model.

    python3 examples/image_goal_navigation.py --goal goal.png
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hydra_ros.client import Future, Progress, SimulatorClient, SimulatorError
from hydra_ros.progress import ProgressReport

FPS = 15.0
SCALES = 3  # of the picture pyramid that frames are compared in

# Body poses [T, 4, 4] of candidates in, the last frame of each (uint8 [N, H, W, 3]) out.
Imagine = Callable[[Sequence[np.ndarray]], np.ndarray]
# Drives a leg of body poses [T, 4, 4] and returns what was seen on it, uint8 [T, H, W, 3].
Drive = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Planner:
    """The cross-entropy method over legs of constant speed and turn rate.

    A candidate is ``legs`` legs of ``leg_frames`` frames, each a speed (m/s, forward) and a turn
    rate (rad/s, left). The first iteration imagines ``candidates`` of them that cover all there
    are, or the surroundings of what is left of the last plan; each further one draws them around
    the best sixth. One candidate is to stay, one the middle of the others.
    """

    candidates: int = 32
    iterations: int = 4
    legs: int = 2
    leg_frames: int = 17
    max_speed: float = 0.7
    max_turn: float = 0.8

    def plan(
        self,
        imagine: Imagine,
        start: np.ndarray,
        goal: np.ndarray,
        random: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """Return the best candidate from the body pose ``start`` [4, 4] towards a picture.

        ``before`` is the plan whose first leg was driven to get there.
        """
        low = np.tile([0.0, -self.max_turn], (self.legs, 1))
        high = np.tile([self.max_speed, self.max_turn], (self.legs, 1))
        mean, spread = (low + high) / 2, (high - low) / 2
        count = self.candidates - 2
        if before is not None and len(before.actions) > self.legs:
            mean, spread = before.actions[1 : 1 + self.legs], spread / 2
            drawn = mean + spread * random.standard_normal((count, *mean.shape))
        else:
            drawn = low + (high - low) * evenly(random, count, low.size).reshape(-1, *low.shape)
        elites = max(2, self.candidates // 6)
        best: Plan | None = None
        for _ in range(self.iterations):
            actions = np.concatenate([drawn, np.zeros_like(mean)[None], mean[None]])
            actions = actions.clip(low, high)
            paths = [self.path(start, one) for one in actions]
            costs = np.array([distance(frame, goal) for frame in imagine(paths)])
            order = np.argsort(costs)
            if best is None or costs[order[0]] < best.cost:
                first = order[0]
                best = Plan(actions=actions[first], path=paths[first], cost=float(costs[first]))
            chosen = actions[order[:elites]]
            mean, spread = chosen.mean(0), chosen.std(0) + 0.03 * (high - low)
            drawn = mean + spread * random.standard_normal((count, *mean.shape))
        assert best is not None
        return best

    def path(self, start: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the body poses [legs * leg_frames, 4, 4] of speeds and turn rates [legs, 2]."""
        poses, pose = [], start
        for speed, turn in actions:
            for _ in range(self.leg_frames):
                pose = driven(pose, speed / FPS, turn / FPS)
                poses.append(pose)
        return np.stack(poses)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A candidate: its actions [legs, 2], its path [T, 4, 4], and how far its end looks off."""

    actions: np.ndarray
    path: np.ndarray
    cost: float


def evenly(random: np.random.Generator, count: int, numbers: int) -> np.ndarray:
    """Draw [count, numbers] from 0 to 1, each number evenly spread (a Latin hypercube)."""
    places = random.permuted(np.tile(np.arange(count), (numbers, 1)), axis=1).T
    return (places + random.random((count, numbers))) / count


def driven(pose: np.ndarray, ahead: float, left: float) -> np.ndarray:
    """Return a body pose moved ``ahead`` metres on the level and turned ``left`` radians."""
    moved = pose.copy()
    heading = pose[:2, 0] / max(float(np.linalg.norm(pose[:2, 0])), 1e-9)
    moved[:2, 3] += ahead * heading
    cos, sin = math.cos(left), math.sin(left)
    moved[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ pose[:3, :3]
    return moved


def distance(frame: np.ndarray, goal: np.ndarray) -> float:
    """Return how different two pictures are: mean absolute levels, from coarse to fine.

    Coarse pictures still agree a little when the camera is off by a part of the view, so that
    there is a way downhill from far away.
    """
    height, width = 24, 40
    total = 0.0
    for scale in range(SCALES):
        size = (width >> scale, height >> scale)
        pair = [
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
            for picture in (frame, goal)
        ]
        total += float(np.abs(pair[0] - pair[1]).mean())
    return total / SCALES


def navigate(
    client: SimulatorClient,
    goal: np.ndarray,
    planner: Planner,
    report: ProgressReport,
    *,
    most_legs: int,
    seed: int,
    robot: Drive | None = None,
) -> list[Plan]:
    """Drive the live world towards a goal picture; return the plans that were followed.

    With a ``robot`` it drives too, and the simulator observes what that sees.
    """

    def imagine(paths: Sequence[np.ndarray]) -> np.ndarray:
        report.stage(f"leg {leg}: frames imagined", total=sum(len(path) for path in paths))
        return last_frames(client, paths, lambda progress: report.update(progress.frames_done))

    random = np.random.default_rng(seed)
    stay = np.tile(np.eye(4), (2, 1, 1))
    pose = client.imagine([stay], relative=True, frames="last")[0].poses[0]
    followed: list[Plan] = []
    for leg in range(most_legs):
        plan = planner.plan(imagine, pose, goal, random, followed[-1] if followed else None)
        followed.append(plan)
        if not plan.actions[0].any():
            report.say(f"leg {leg}: staying is best, at a difference of {plan.cost:.1f} levels")
            break
        pose = drive_leg(client, plan.path[: planner.leg_frames], robot)
        speed, turn = plan.actions[0]
        report.say(
            f"leg {leg}: {speed:.2f} m/s, {turn:+.2f} rad/s, expected {plan.cost:.1f} levels off"
        )
    return followed


def last_frames(
    client: SimulatorClient,
    paths: Sequence[np.ndarray],
    on_progress: Callable[[Progress], None] | None = None,
) -> np.ndarray:
    """Return the last imagined frame of each path, uint8 [N, H, W, 3]."""
    futures = client.imagine(paths, frames="last", on_progress=on_progress)
    return np.stack([future.frames[-1] for future in futures])


def drive_leg(client: SimulatorClient, path: np.ndarray, robot: Drive | None) -> np.ndarray:
    """Drive a leg, in reality or in the imagination alone; return its end."""
    if robot is not None:
        return client.observe(robot(path), path, rate=FPS)
    # Imagined once more to keep it, and to make that the live world.
    futures: list[Future] = client.imagine([path], frames="last", keep=True)
    return client.commit(futures[0]).pose


def interrupt_once(number: int, frame: object) -> None:
    """End the program in good order, and let nothing interrupt that."""
    # Under `ros2 launch`, Ctrl-C comes twice: from the terminal and from the launch tool.
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def read_picture(path: str) -> np.ndarray | None:
    """Return a picture, uint8 [H, W, 3] RGB, None where there is none in the file."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    return None if picture is None else picture[..., ::-1]


def main(arguments: list[str] | None = None) -> int:
    """Navigate a running simulator to a picture; 1 without a simulator, 2 without a picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--goal", required=True, help="picture that the camera shall see")
    parser.add_argument("--namespace", default="", help="of the simulator")
    parser.add_argument("--legs", type=int, default=6, help="most legs to drive")
    parser.add_argument("--candidates", type=int, default=Planner.candidates)
    parser.add_argument("--iterations", type=int, default=Planner.iterations)
    parser.add_argument("--seed", type=int, default=0)
    options, _ = parser.parse_known_args(arguments)  # the rest is ROS's
    picture = read_picture(options.goal)
    if picture is None:
        print(f"{options.goal} is no picture that can be read", file=sys.stderr)
        return 2
    signal.signal(signal.SIGINT, interrupt_once)
    planner = Planner(candidates=options.candidates, iterations=options.iterations)
    try:
        with SimulatorClient(options.namespace) as client, ProgressReport() as report:
            client.wait_for_simulator(300)  # `ros2 launch` starts it at the same time
            navigate(client, picture, planner, report, most_legs=options.legs, seed=options.seed)
    except KeyboardInterrupt:
        return 0
    except (SimulatorError, TimeoutError) as error:
        print(f"the simulator did not go along: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
