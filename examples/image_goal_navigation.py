#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Image-goal navigation: drive until the camera sees the goal picture.

The planner imagines candidate paths through the simulator's ``~/rollout`` action, scores the
imagined frames of each against the goal, narrows its candidates down by the cross-entropy
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
from typing import Protocol

import cv2
import numpy as np

from hydra_ros.client import Future, SimulatorClient, SimulatorError
from hydra_ros.progress import ProgressReport

FPS = 15.0
SCALES = 3  # of the picture pyramid that frames are compared in
HEIGHT, WIDTH = 24, 40  # of its finest picture
VIEW_EVERY = 4  # frames of a path between two that are looked at
FARTHEST = 12  # columns of WIDTH that a picture is shifted by to find how far it is turned
LESS_SEEN = 0.3  # what is compared in part counts as so much more different, at no overlap


class Views(Protocol):
    """What would be seen along a path; a ``Future`` of the client is one."""

    @property
    def frames(self) -> np.ndarray:
        """Pictures uint8 [n, H, W, 3]."""

    @property
    def indices(self) -> np.ndarray:
        """Their numbers [n] along the path."""

    @property
    def intrinsics(self) -> np.ndarray:
        """The camera's pinhole matrix [3, 3] in pixels."""


# Body poses [T, 4, 4] of candidates in, what is seen along each out.
Imagine = Callable[[Sequence[np.ndarray]], Sequence[Views]]
# Drives a leg of body poses [T, 4, 4] and returns what was seen on it, uint8 [T, H, W, 3].
Drive = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Planner:
    """The cross-entropy method over legs of constant speed and turn rate.

    A candidate is ``legs`` legs, each a speed (m/s, forward) and a turn rate (rad/s, left). The
    first leg has ``leg_frames`` frames (1 + 4 k) and each further one a frame less, so that a
    path is imagined in one piece, after a context that all have in common. The first iteration
    imagines ``candidates`` of them that cover all there are, or the surroundings of what is left
    of the last plan; each further one draws them around the best sixth. One candidate is to stay,
    one the middle of the others.

    What is imagined is expensive, so all of it is used. A path that passes the goal halfway is
    the slower candidate that ends there. And one that ends beside the goal, turned away by some
    degrees, is turned back by as much before it is drawn around: pictures tell that angle.
    """

    candidates: int = 16
    iterations: int = 2
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
        low, high = self._bounds()
        mean, spread = (low + high) / 2, (high - low) / 2
        count = self.candidates - 2
        if before is not None and len(before.actions) > self.legs:
            mean, spread = before.actions[1 : 1 + self.legs], spread / 2
            drawn = mean + spread * random.standard_normal((count, *mean.shape))
        else:
            drawn = low + (high - low) * evenly(random, count, low.size).reshape(-1, *low.shape)
        elites = min(max(2, self.candidates // 6), count)
        wanted = pyramid(goal)
        best: Plan | None = None
        for _ in range(self.iterations):
            actions = np.concatenate([drawn, np.zeros_like(mean)[None], mean[None]])
            actions = actions.clip(low, high)
            seen = imagine([self.path(start, one) for one in actions])
            turned: list[Candidate] = []
            for one, views in zip(actions, seen, strict=True):
                here, turnable = self._candidates(one, views, wanted)
                turned.append(turnable)
                if best is None or here.cost < best.cost:
                    path = self.path(start, here.actions)
                    best = Plan(actions=here.actions, path=path, cost=here.cost)
            turned.sort(key=lambda candidate: candidate.cost)
            chosen = np.stack([candidate.actions for candidate in turned[:elites]])
            mean, spread = chosen.mean(0), chosen.std(0) + 0.03 * (high - low)
            drawn = mean + spread * random.standard_normal((count, *mean.shape))
            drawn[:elites] = chosen  # nobody has seen them turned yet
        assert best is not None
        return best

    def path(self, start: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the body poses [T, 4, 4] of speeds and turn rates [legs, 2]."""
        poses, pose = [], start
        for (speed, turn), frames in zip(actions, self._frames(len(actions)), strict=True):
            for _ in range(frames):
                pose = driven(pose, speed / FPS, turn / FPS)
                poses.append(pose)
        return np.stack(poses)

    def _candidates(
        self, actions: np.ndarray, views: Views, goal: list[np.ndarray]
    ) -> tuple[Candidate, Candidate]:
        """Return the best end along a path as it was seen, and the best when turned there."""
        here = turnable = Candidate(actions=actions, cost=math.inf)
        columns = views.frames.shape[2] / WIDTH
        for index, frame in zip(views.indices, views.frames, strict=True):
            differences = shifted_distances(pyramid(frame), goal)
            cost = float(differences[FARTHEST])
            if cost < here.cost:
                here = Candidate(actions=self._ended(actions, index + 1), cost=cost)
            shift = int(differences.argmin()) - FARTHEST
            if differences[shift + FARTHEST] < turnable.cost:
                angle = -math.atan2(shift * columns, views.intrinsics[0, 0])
                ended = self._turned(self._ended(actions, index + 1), angle)
                turnable = Candidate(actions=ended, cost=float(differences[shift + FARTHEST]))
        return here, turnable

    def _ended(self, actions: np.ndarray, frames: int) -> np.ndarray:
        """Return the slower actions that end where these are after so many frames."""
        lengths = self._frames(len(actions))
        driven = (frames - (np.cumsum(lengths) - lengths)).clip(0, lengths)
        return actions * (driven / lengths)[:, None]

    def _turned(self, actions: np.ndarray, angle: float) -> np.ndarray:
        """Return actions whose end is turned left by an angle, by the last leg if it can."""
        low, high = self._bounds()
        seconds = self._frames(len(actions)) / FPS
        turned = actions.copy()
        for leg in reversed(range(len(turned))):
            rate = np.clip(turned[leg, 1] + angle / seconds[leg], low[leg, 1], high[leg, 1])
            angle -= (rate - turned[leg, 1]) * seconds[leg]
            turned[leg, 1] = rate
        return turned

    def _frames(self, legs: int) -> np.ndarray:
        """Return how many frames each of so many legs has."""
        return self.leg_frames - (np.arange(legs) > 0).astype(int)

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the greatest actions [legs, 2]."""
        low = np.tile([0.0, -self.max_turn], (self.legs, 1))
        return low, np.tile([self.max_speed, self.max_turn], (self.legs, 1))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Actions [legs, 2] and how far their end looks off, in levels."""

    actions: np.ndarray
    cost: float


@dataclass(frozen=True, kw_only=True)
class Plan(Candidate):
    """The candidate that was chosen, with its path [T, 4, 4]."""

    path: np.ndarray


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


def pyramid(picture: np.ndarray) -> list[np.ndarray]:
    """Return a picture, uint8 [H, W, 3], in sizes from fine to coarse.

    Coarse pictures still agree a little when the camera is off by a part of the view, so that
    there is a way downhill from far away.
    """
    sizes = [(WIDTH >> scale, HEIGHT >> scale) for scale in range(SCALES)]
    return [
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) for size in sizes
    ]


def shifted_distances(seen: list[np.ndarray], goal: list[np.ndarray]) -> np.ndarray:
    """Return how different two pyramids are where they overlap, for shifts by -12 to 12 columns.

    Mean absolute levels; with a positive shift what is right in ``seen`` is compared with what is
    left in ``goal``, as if the camera had been turned to the right.
    """
    costs = np.zeros(2 * FARTHEST + 1)
    for shift in range(-FARTHEST, FARTHEST + 1):
        for scale, (one, other) in enumerate(zip(seen, goal, strict=True)):
            columns = round(shift / (1 << scale))
            width = one.shape[1] - abs(columns)
            ours = one[:, max(columns, 0) :][:, :width]
            theirs = other[:, max(-columns, 0) :][:, :width]
            costs[shift + FARTHEST] += float(np.abs(ours - theirs).mean()) / len(seen)
        costs[shift + FARTHEST] *= 1 + LESS_SEEN * abs(shift) / WIDTH
    return costs


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

    def imagine(paths: Sequence[np.ndarray]) -> Sequence[Views]:
        report.stage(f"leg {leg}: frames imagined", total=sum(len(path) for path in paths))
        return client.imagine(
            paths,
            frames=VIEW_EVERY,
            on_progress=lambda progress: report.update(progress.frames_done),
        )

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
