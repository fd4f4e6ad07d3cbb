# SPDX-License-Identifier: Apache-2.0
"""Imagined futures as a program gets them, and a rollout that is under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus

from hydra_ros.action import Rollout
from hydra_ros.action_client import ActionClient, cancel_when_accepted
from hydra_ros.conversions import pose_from_message
from hydra_ros.msg import ImaginedFuture
from hydra_ros.rollout_messages import frames_from_message


class SimulatorError(RuntimeError):
    """The simulator refused, or is not there; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Future:
    """One candidate path, imagined once.

    ``frames`` uint8 [n, H, W, 3] with the numbers ``indices`` [n] along the path (0 is the first
    after the state) and the camera's ``poses`` [n, 4, 4]. ``intrinsics`` [3, 3] is its pinhole
    matrix in pixels, (0, 0) the centre of the first one. ``id`` is "" unless it was kept.
    """

    id: str
    candidate: int
    sample: int
    seed: int
    indices: np.ndarray
    poses: np.ndarray
    intrinsics: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a goal is: frames of all candidates, and seconds it will still take."""

    frames_done: int
    frames_total: int
    time_left: float


class Imagining:
    """Futures on their way; made by ``SimulatorClient.start_imagining``.

    ``wait`` takes a future of rclpy, a deadline (monotonic seconds, or None) and what to say when
    it passes.
    """

    def __init__(
        self, rollout: ActionClient, goal: Rollout.Goal, wait: Callable[..., Any]
    ) -> None:
        self.progress: Progress | None = None
        self.timings: dict[str, float] = {}
        self.batch = 0  # most candidates that were computed at once
        self._wait = wait
        self._on_progress: Callable[[Progress], None] | None = None
        self._handle: Any = None
        self._goal = rollout.send_goal_async(goal, feedback_callback=self._feedback)
        self._result: Any = None

    def cancel(self) -> None:
        """Give it up; ``result`` then raises ``SimulatorError``."""
        cancel_when_accepted(self._goal)

    def result(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> list[Future]:
        """Wait for the futures, samples of a candidate side by side.

        ``on_progress`` is called after every chunk, on the executor's thread.

        Raises:
            SimulatorError: the goal was refused or given up, with the reason.
            TimeoutError: not done in ``timeout`` seconds; the goal is cancelled.
        """
        self._on_progress = on_progress
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            if self._handle is None:
                self._handle = self._wait(self._goal, deadline, "no answer to the goal")
                if not self._handle.accepted:
                    raise SimulatorError("the simulator did not accept the goal")
            if self._result is None:
                self._result = self._handle.get_result_async()
            answer = self._wait(self._result, deadline, "the rollout is not done")
        except (TimeoutError, KeyboardInterrupt):
            self.cancel()
            raise
        result = answer.result
        if answer.status != GoalStatus.STATUS_SUCCEEDED:
            raise SimulatorError(result.message or "the rollout was given up")
        names = ("queued_s", "context_s", "sampling_s", "decoding_s", "total_s")
        self.timings = {name.removesuffix("_s"): getattr(result, name) for name in names}
        self.batch = result.batch
        return [future_from_message(message) for message in result.futures]

    def _feedback(self, message: Any) -> None:
        feedback = message.feedback
        self.progress = Progress(
            frames_done=feedback.frames_done,
            frames_total=feedback.frames_total,
            time_left=feedback.time_left_s,
        )
        if self._on_progress:
            self._on_progress(self.progress)


def future_from_message(message: ImaginedFuture) -> Future:
    """Read a future, its pictures decoded."""
    return Future(
        id=message.id,
        candidate=message.candidate,
        sample=message.sample,
        seed=message.seed,
        indices=np.array(message.indices, dtype=np.int64),
        poses=np.stack([pose_from_message(pose.pose) for pose in message.poses]),
        intrinsics=np.reshape(message.camera_info.k, (3, 3)),
        frames=frames_from_message(message),
    )
