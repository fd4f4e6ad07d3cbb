# SPDX-License-Identifier: Apache-2.0
"""``~/rollout`` and ``~/commit``: futures of the world, imagined beside it and made live.

Goals are checked here, computed by ``rollout_scheduler.py`` on the simulation thread or by
``rollout_workers.py`` beside it, and put into messages on a thread of their own. A goal that
cannot be served is accepted and aborted at once, since a rejection could not say why.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode

from hydra_ros import rollout_messages
from hydra_ros.action import Rollout
from hydra_ros.commands import CameraFrames
from hydra_ros.futures import Commitment, FutureStore, KeptFuture
from hydra_ros.msg import ImaginedFuture
from hydra_ros.parameters import Settings
from hydra_ros.rollout_goals import GoalError, GoalLimits, RolloutGoal, read_goal
from hydra_ros.rollout_messages import FutureFormat
from hydra_ros.rollout_scheduler import Abandoned, Job, RolloutScheduler, Work
from hydra_ros.rollout_workers import RolloutWorkers
from hydra_ros.session import Session
from hydra_ros.srv import Commit

# Results hold pictures, so they are forgotten soon after they were sent (the middleware's
# default is 15 minutes).
RESULT_SECONDS = 10.0
MOST_GOALS = 64  # that run or wait
PUMP_SECONDS = 0.02
# A client that ended is seen by its subscription; one that is only just being found is not.
CLIENT_GONE_SECONDS = 3.0
CPU_BATCH = 4  # wider falls out of a CPU's caches
GPU_BATCH = 64


class RolloutServer:
    """Serves the rollouts and commits of a node.

    Args:
        node: the simulator's.
        session: returns the session, None while no model is loaded.
        settings: returns the node's parameters.
        completed: awaits a future of another thread.
        pose_message: puts an optical pose [4, 4] into a message in the world frame.
        post: runs a function soon on the executor's thread; may be called from any thread.
    """

    def __init__(
        self,
        node: LifecycleNode,
        session: Callable[[], Session | None],
        settings: Callable[[], Settings],
        completed: Callable[[Future], Awaitable[Any]],
        pose_message: Callable[[np.ndarray], PoseStamped],
        post: Callable[[Callable[[], None]], None],
    ) -> None:
        self._node = node
        self._session = session
        self._settings = settings
        self._completed = completed
        self._pose_message = pose_message
        self._post = post
        self._scheduler: RolloutScheduler | None = None
        self._served: Session | None = None  # the scheduler's
        self._workers: RolloutWorkers | None = None
        self._futures = FutureStore()
        self._futures_world = -1  # the number of the world that they are futures of
        self._jobs: dict[bytes, Job] = {}
        self._alone_since: float | None = None
        self._writer = ThreadPoolExecutor(1, "rollout-messages")
        group = ReentrantCallbackGroup()
        self._action = ActionServer(
            node, Rollout, "~/rollout", self._execute,
            callback_group=group, cancel_callback=self._cancel, result_timeout=RESULT_SECONDS,
        )  # fmt: skip
        node.create_service(Commit, "~/commit", self._commit, callback_group=group)
        self._feedback_topic = f"{node.get_fully_qualified_name()}/rollout/_action/feedback"
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PUMP_SECONDS, self._pump, clock=steady)
        self._timer.cancel()

    def open(self, session: Session) -> None:
        """Start the workers that the parameters ask for, if any, for a loaded model."""
        settings = self._settings()
        if settings.workers or settings.ray_address:
            world, logger = session.thread.world, self._node.get_logger()
            self._workers = RolloutWorkers(settings, world, self._post, logger)

    def close(self, reason: str = "the simulator was shut down or cleaned up") -> None:
        """Give up all goals, before the session ends."""
        if self._workers:
            self._workers.close(reason)
        self._workers = None
        self._end_turns(reason)

    def _end_turns(self, reason: str) -> None:
        if self._scheduler:
            self._scheduler.close(reason)
        self._scheduler = self._served = None
        self._futures.clear()

    def destroy(self) -> None:
        """End for good."""
        self.close()
        self._writer.shutdown(wait=False, cancel_futures=True)
        self._action.destroy()

    # --- Goals ---

    async def _execute(self, handle: ServerGoalHandle) -> Rollout.Result:
        accepted = time.monotonic()
        session = self._session()
        world = session.worlds if session else -1
        result = Rollout.Result()
        try:
            job, goal, format = await self._begin(handle)
        except ValueError as error:
            return self._abort(handle, result, str(error))
        key = bytes(handle.goal_id.uuid)
        self._jobs[key] = job
        if handle.is_cancel_requested:  # while its state was read
            job.abandon("canceled")
            self._post(self._pump)
        try:
            work = await self._completed(job.done)
            result.futures = await self._completed(
                self._writer.submit(self._messages, work, format, self._prefix(handle, goal))
            )
        except Abandoned as error:
            if handle.is_cancel_requested:
                handle.canceled()
                result.message = "canceled"
                return result
            return self._abort(handle, result, str(error))
        except Exception as error:  # whatever the model raised; the node goes on
            return self._abort(handle, result, f"the rollout failed: {error!r}")
        finally:
            del self._jobs[key]
        size = rollout_messages.size_of(result.futures)
        most = self._settings().max_result_bytes
        if size > most:
            result.futures = []
            return self._abort(
                handle, result,
                f"the frames take {size / 1e6:.1f} MB; a result may take {most / 1e6:.1f} MB "
                "(parameter max_result_bytes): ask for fewer frames or candidates",
            )  # fmt: skip
        # Another world may have been started, or the model loaded anew, while it was imagined.
        if goal.keep and session is self._session() and session.worlds == world:
            self._keep(work, goal, result.futures, world)
        result.queued_s = (job.started or accepted) - accepted
        result.context_s = work.seconds["context"]
        result.sampling_s = work.seconds["sampling"]
        result.decoding_s = work.seconds["decoding"]
        result.total_s = time.monotonic() - accepted
        result.batch = work.widest
        if handle.is_cancel_requested:
            result.message = "canceled"
            handle.canceled()
        else:
            handle.succeed()
        return result

    async def _begin(self, handle: ServerGoalHandle) -> tuple[Job, RolloutGoal, FutureFormat]:
        """Check a goal and let it wait for its turns; raises ``ValueError`` with the reason."""
        session, settings, request = self._session(), self._settings(), handle.request
        if not session:
            raise GoalError("the simulator is not configured")
        if len(self._jobs) >= MOST_GOALS:
            raise GoalError(f"{len(self._jobs)} goals run or wait; no more are accepted now")
        live = session.thread.committed
        if request.state:
            state = await self._completed(session.saved_state(request.state))
        elif live and live.state and session.state in ("running", "paused"):
            state = live.state
        else:
            raise GoalError("no world runs; start one, or name a saved state")
        goal = read_goal(
            request,
            camera=self._camera(settings),
            start=state.pose,
            fps=live.fps,
            size=(live.height, live.width),
            limits=GoalLimits(
                candidates=settings.max_rollout_candidates,
                path_frames=settings.max_pending_frames,
                result_bytes=settings.max_result_bytes,
            ),
        )
        if goal.seed is not None:
            state = dataclasses.replace(state, seed=goal.seed)
        format = FutureFormat(
            encoding=goal.encoding,
            jpeg_quality=settings.jpeg_quality,
            start=state.time,
            fps=live.fps,
            fov_x=state.fov_x,
            world_frame=settings.world_frame,
            optical_frame=settings.optical_frame,
            optical=settings.pose_convention == "optical",
        )

        workers = self._workers if self._workers and self._workers.ready else None

        def begin(world: Any) -> Work:
            from hydra_model.imagination import Imagination

            options = {
                "samples": goal.samples, "every": goal.every,
                "chunk_frames": session.steps.chunk_frames,
                "on_chunk": lambda parts: self._report(handle, job, goal, format, parts),
            }  # fmt: skip
            if workers:
                order = {"priority": goal.priority, "states": goal.keep}
                return workers.imagination(state, goal.paths, **order, **options)
            return Imagination(world, state, goal.paths, **options)

        job = Job(begin=begin, priority=goal.priority)
        (workers or self._scheduler_of(session)).add(job)
        self._timer.reset()
        return job, goal, format

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        job = self._jobs.get(bytes(handle.goal_id.uuid))
        if job:
            job.abandon("canceled")
            self._post(self._pump)
        return CancelResponse.ACCEPT

    def _abort(self, handle: ServerGoalHandle, result: Rollout.Result, why: str) -> Rollout.Result:
        self._node.get_logger().warning(f"rollout aborted: {why}")
        result.message = why
        handle.abort()
        return result

    def _scheduler_of(self, session: Session) -> RolloutScheduler:
        if self._served is not session or self._scheduler is None:
            self._end_turns("the model was loaded anew")
            gpu = session.facts.device.startswith("cuda")
            self._served = session
            self._scheduler = RolloutScheduler(
                session.thread.call,
                lambda: session.thread.wanted,
                session.steps,
                self._post,
                self._settings().rollout_batch or (GPU_BATCH if gpu else CPU_BATCH),
            )
        return self._scheduler

    def _pump(self) -> None:
        busy = [place for place in (self._scheduler, self._workers) if place and place.jobs]
        if not busy:
            self._timer.cancel()
            self._alone_since = None
            return
        self._notice_dead_clients(busy)
        for place in busy:
            place.pump()

    def _notice_dead_clients(self, busy: list[RolloutScheduler | RolloutWorkers]) -> None:
        # Every action client subscribes to the feedback: with none left, nobody waits.
        now = time.monotonic()
        if self._node.count_subscribers(self._feedback_topic):
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
        elif now - self._alone_since > CLIENT_GONE_SECONDS:
            self._alone_since = None
            for place in busy:
                place.abandon_all("the client is gone")

    # --- Messages ---

    @staticmethod
    def _prefix(handle: ServerGoalHandle, goal: RolloutGoal) -> str:
        """Return what the ids of a goal's futures begin with, "" where none are kept."""
        return bytes(handle.goal_id.uuid).hex()[:12] if goal.keep else ""

    @staticmethod
    def _messages(work: Work, format: FutureFormat, prefix: str) -> list[ImaginedFuture]:
        # On the writer's thread.
        return [
            format.message(
                id=f"{prefix}-{future.candidate}-{future.sample}" if prefix else "",
                candidate=future.candidate,
                sample=future.sample,
                seed=future.seed,
                indices=future.indices,
                poses=future.poses,
                frames=future.frames,
            )
            for future in work.results()
        ]

    def _report(
        self,
        handle: ServerGoalHandle,
        job: Job,
        goal: RolloutGoal,
        format: FutureFormat,
        parts: list[Any],
    ) -> None:
        """Publish what a chunk added; called on the thread that computed, which must not wait."""

        def publish() -> None:
            feedback = Rollout.Feedback()
            feedback.candidates = [part.candidate for part in parts]
            feedback.samples = [part.sample for part in parts]
            feedback.frames_done, feedback.frames_total = done, total
            feedback.time_left_s = left
            if goal.every:
                feedback.futures = [
                    format.message(
                        id="", candidate=part.candidate, sample=part.sample, seed=part.seed,
                        indices=part.indices, poses=part.poses, frames=part.frames,
                    )
                    for part in parts
                ]  # fmt: skip
            if handle.is_active:
                handle.publish_feedback(feedback)

        done, total, left = job.work.frames_done, job.work.frames_total, job.time_left
        self._writer.submit(publish)

    # --- Commits ---

    def _keep(
        self, work: Work, goal: RolloutGoal, messages: list[ImaginedFuture], world: int
    ) -> None:
        self._futures_world = world
        self._futures.keep(
            KeptFuture(
                id=message.id, origin=work.state, states=future.states, ends=future.ends,
                poses=goal.paths[future.candidate], seed=future.seed,
            )
            for message, future in zip(messages, work.results(), strict=True)
        )  # fmt: skip

    async def _commit(self, request: Commit.Request, response: Commit.Response) -> Commit.Response:
        session = self._session()
        if not session:
            response.message = "the simulator is not configured"
            return response
        if self._futures_world != session.worlds:
            self._futures.clear()  # another world was started since
        try:
            future = self._futures.find(request.id)
            chunks = future.chunks_of(request.frames)
            start = Commitment(future, chunks, session.world)
            begun = session.begin(start)
            # Before the next live step: its frames come after these.
            begun.add_done_callback(lambda done: self._show(session, start, response, done))
            await self._completed(begun)
        except Exception as error:
            response.message = str(error)
            self._node.get_logger().warning(f"commit refused: {error}")
            return response
        response.success = True
        response.message = (
            f"future {request.id!r} is live: {future.ends[chunks - 1]} frames, up to "
            f"{start.time:.2f} s"
        )
        response.time = start.time
        return response

    def _show(
        self, session: Session, start: Commitment, response: Commit.Response, begun: Future
    ) -> None:
        if begun.exception():
            return
        batch = start.batch(session.run, session.facts.fps)
        session.show(batch, start.before)
        response.pose = self._pose_message(start.pose)
        # Now: later, what comes after may have been published.
        response.pose.header.stamp = session.publisher.stamp_of(float(batch.times[-1]))

    @staticmethod
    def _camera(settings: Settings) -> CameraFrames:
        return CameraFrames(
            world=settings.world_frame,
            body=settings.camera_frame,
            optical=settings.optical_frame,
            pose_convention=settings.pose_convention,
        )
