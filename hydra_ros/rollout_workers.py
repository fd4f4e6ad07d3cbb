# SPDX-License-Identifier: Apache-2.0
"""Rollouts on workers, which leave the simulation thread to the live world.

To the rollout server it looks like ``rollout_scheduler.RolloutScheduler``. Workers are started
in the background; until the first one is there, ``ready`` is false and goals are better served
by the simulation thread, which is also what happens where no worker can be had at all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.impl.rcutils_logger import RcutilsLogger

from hydra_ros.parameters import Settings
from hydra_ros.rollout_scheduler import Abandoned, Job, Work
from hydra_ros.world_loader import worker_recipe

if TYPE_CHECKING:
    from hydra_model.workers.ray_crew import RayCrew

# What the end waits for workers that are just being started.
OPENING_SECONDS = 5.0


class RolloutWorkers:
    """Workers as the parameters ask for them; but for ``ready``, for the executor's thread.

    Args:
        settings: the node's parameters.
        world: whose futures are imagined; it is only asked what it is.
        post: runs a function soon on the executor's thread; may be called from any thread.
        logger: the node's.
    """

    def __init__(
        self,
        settings: Settings,
        world: Any,
        post: Callable[[Callable[[], None]], None],
        logger: RcutilsLogger,
    ) -> None:
        self.ready = False
        self._settings = settings
        self._world = world
        self._post = post
        self._logger = logger
        self._packer: Any = None
        self._opened: RayCrew | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._opening = threading.Thread(target=self._open, name="workers", daemon=True)
        self._opening.start()

    @property
    def jobs(self) -> int:
        """Rollouts that run or wait."""
        return len(self._jobs)

    def imagination(self, state: Any, paths: Sequence[np.ndarray], **options: Any) -> Work:
        """Return the work of a rollout: ``hydra_model.workers.spread.SpreadImagination``."""
        from hydra_model.workers.spread import BATCH, SpreadImagination

        batch = self._settings.rollout_batch or BATCH
        return SpreadImagination(
            self._opened.crew, self._world, state, paths, batch=batch, packer=self._packer,
            **options,
        )  # fmt: skip

    def add(self, job: Job) -> None:
        """Take a job, whose work is of ``imagination``."""
        try:
            work = job.work = job.begin(self._world)
            work.on_start = lambda: setattr(job, "started", time.monotonic())
            self._jobs.append(job)
            work.done.add_done_callback(lambda _: self._post(lambda: self._done(job)))
            work.start()
        except Exception as error:
            self._finish(job, error)

    def abandon_all(self, reason: str) -> None:
        """Give up all jobs."""
        for job in self._jobs:
            job.abandon(reason)
        self.pump()

    def pump(self) -> None:
        """Give up what was abandoned."""
        for job in [job for job in self._jobs if job.abandoned]:
            self._finish(job, Abandoned(job.abandoned))
            job.work.cancel()

    def close(self, reason: str) -> None:
        """Give up all jobs, and end the workers."""
        self.abandon_all(reason)
        with self._lock:
            self._closed, self.ready = True, False
            opened = self._opened
        if opened:
            opened.close()
        self._opening.join(OPENING_SECONDS)

    def _done(self, job: Job) -> None:
        if job in self._jobs:
            self._finish(job, job.work.done.exception())

    def _finish(self, job: Job, error: BaseException | None) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
        if error:
            job.done.set_exception(error)
        else:
            job.done.set_result(job.work)

    def _open(self) -> None:
        # On a thread of its own.
        from hydra_model.workers.packed_states import Packer
        from hydra_model.workers.ray_crew import open_crew

        settings, world = self._settings, self._world
        try:
            opened = open_crew(
                worker_recipe(settings), workers=settings.workers, address=settings.ray_address,
                weights=world.weights,
            )  # fmt: skip
        except Exception as error:  # whatever Ray meets; the node goes on
            self._logger.error(f"there are no workers, rollouts run in the simulator: {error}")
            return
        with self._lock:
            self._opened = opened
            self._packer = Packer(world.config, world.weights)
            closed = self._closed
        if closed:
            opened.close()
            return
        if opened.crew.wait(1):
            with self._lock:
                self.ready = not self._closed
            opened.crew.wait(opened.count)
        if not self._closed:
            self._tell(opened)

    def _tell(self, opened: RayCrew) -> None:
        present = opened.crew.present
        if present:
            place = "GPU" if opened.gpus else "processor"
            each = f"{present} workers, each with a {place}" if present > 1 else "1 worker"
            self._logger.info(f"rollouts are imagined by {each} of its own")
        else:
            self._logger.error("no worker came up, rollouts run in the simulator")
