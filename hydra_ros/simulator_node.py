# SPDX-License-Identifier: Apache-2.0
"""The simulator as a lifecycle node: loads on configure, runs on activate.

Topics, services and transitions are wired here; what they do is in the modules named like it.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from concurrent.futures import Future, wait
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future as RosFuture
from std_msgs.msg import Header

from hydra_model.freed_memory import keep_freed_memory
from hydra_ros import conversions, parameters
from hydra_ros.command_inputs import CommandInputs
from hydra_ros.commands import CameraFrames, Command, CommandError
from hydra_ros.diagnostics import Counters, Status, diagnostic_message
from hydra_ros.environment import RosStartError, start_ros, use_dds_profile
from hydra_ros.frame_clock import FrameClock
from hydra_ros.frame_publisher import FramePublisher
from hydra_ros.memory_publisher import MemoryPublisher
from hydra_ros.observation_inputs import ObservationInputs
from hydra_ros.post_box import PostBox
from hydra_ros.rollout_server import RolloutServer
from hydra_ros.session import Session
from hydra_ros.simulation_control import SimulationControl
from hydra_ros.simulation_thread import Cancelled, FrameBatch, WorldFacts
from hydra_ros.srv import Reset
from hydra_ros.state_services import StateServices
from hydra_ros.threads import let_idle_threads_sleep
from hydra_ros.throttle import Throttle
from hydra_ros.transitions import refuse_impossible_transitions
from hydra_ros.unknown_parameters import warn_of_unknown_parameters
from hydra_ros.world_loader import load_world

SUCCESS = TransitionCallbackReturn.SUCCESS
FAILURE = TransitionCallbackReturn.FAILURE

TICK = 0.05  # s


class SimulatorNode(LifecycleNode):
    """Camera commands in, predicted camera images out; see ``parameters.Settings``.

    All callbacks run on one thread and none waits for the model, except the transition that
    loads it. The publishers are made once: they and the subscriptions exist in every state, so
    that commands which come too early are answered.
    """

    def __init__(self) -> None:
        super().__init__("hydra_simulator")
        refuse_impossible_transitions(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        parameters.declare(self)
        self._settings = parameters.read(self)
        self._session: Session | None = None
        self._counters = Counters()
        self._throttle = Throttle()
        self._post_box = PostBox(self)
        settings = self._settings
        lockstep = settings.mode == "lockstep"
        self._publisher = FramePublisher(
            self,
            settings,
            FrameClock(
                simulated=lockstep or settings.publish_clock, from_zero=settings.publish_clock
            ),
        )
        self._memory = MemoryPublisher(
            self,
            lambda: self._settings,
            self._post_box.post,
            self._publisher.stamp_of,
            self._pose_message,
        )
        frames = CameraFrames(
            world=settings.world_frame,
            body=settings.camera_frame,
            optical=settings.optical_frame,
            pose_convention=settings.pose_convention,
        )
        self._inputs = CommandInputs(self, frames, settings.cmd_vel_type, self._take, self._refuse)
        self._observations = ObservationInputs(
            self,
            frames,
            lambda: self._settings,
            lambda: self._session,
            self._pose_message,
            self._refuse_observation,
            self._counters,
        )
        # A reset is answered when the world has started; meanwhile other callbacks must run.
        self.create_service(Reset, "~/reset", self._reset, callback_group=ReentrantCallbackGroup())
        StateServices(self, lambda: self._session, self._completed, self._pose_message)
        self._rollouts = RolloutServer(
            self,
            lambda: self._session,
            lambda: self._settings,
            self._completed,
            self._pose_message,
            self._post_box.post,
        )
        SimulationControl(
            self, lambda: self._session, lambda: self._settings, self._completed,
            self._publisher.now,
        )  # fmt: skip
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Paced by a steady clock: ROS time may stand still or jump.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._last_tick = time.monotonic()
        self.create_timer(TICK, self._tick, clock=steady)
        self.create_timer(1.0, self._every_second, clock=steady)
        self._frame_timer = self.create_timer(3600.0, self._publish_frames, clock=steady)
        self.add_post_set_parameters_callback(self._parameters_changed)
        warn_of_unknown_parameters(self)
        if settings.autostart:
            self._autostart_timer = self.create_timer(0.0, self._autostart, clock=steady)

    # --- Lifecycle ---

    def _autostart(self) -> None:
        # In the node rather than in a launch file, so that `ros2 run` alone shows something.
        self._autostart_timer.cancel()
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; on failure the node stays unconfigured and says why."""
        settings = self._settings = parameters.read(self)
        self.get_logger().info(f"loading model {settings.model!r} on device {settings.device!r}")
        started = time.monotonic()
        session = Session(
            settings,
            lambda check: load_world(settings, check),
            self._publisher,
            self._frames_came,
            self._memory,
            self._observations.accepted,
            self._post_box.post,
            self._counters,
            self.get_logger(),
        )
        try:
            session.model_loaded(self._wait_for(session.loaded))
        except Exception as error:
            session.close()
            if not isinstance(error, Cancelled):
                self.get_logger().error(f"model {settings.model!r} was not loaded: {error}")
            return FAILURE
        except BaseException:  # KeyboardInterrupt
            session.close()
            raise
        self._session = session
        self._rollouts.open(session)
        facts = session.facts
        self.get_logger().info(
            f"model {facts.name!r} on {facts.device or settings.device}: {facts.width}x"
            f"{facts.height} at {facts.fps:g} Hz, up to {facts.max_chunk_frames} frames a chunk, "
            f"loaded in {time.monotonic() - started:.1f} s"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let time go on; the first time, a world is started too."""
        result = super().on_activate(state)
        self._publisher.active = True
        self._session.activate()
        self._publish_frames()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Pause; frames and lockstep commands that wait go on with the next activation."""
        self._session.deactivate()
        self._publisher.active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and all memory."""
        self.close()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node can only be ended after that."""
        self.close()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything after a transition that raised; the node can be configured again."""
        self.get_logger().error("a transition failed; back to unconfigured")
        self.close()
        return super().on_error(state)

    def close(self) -> None:
        """Free the model and end its thread."""
        self._publisher.active = False
        self._rollouts.close()
        if self._session:
            self._session.close()
            self._session = None

    def _wait_for(self, loaded: Future[WorldFacts]) -> WorldFacts:
        while not wait([loaded], timeout=0.1).done:
            if not self.context.ok():
                raise Cancelled("shut down while loading")
        return loaded.result()

    # --- Parameters ---

    def _check_parameters(self, changed: list) -> SetParametersResult:
        reason = parameters.check(changed)
        if not reason and getattr(self, "_session", None):
            names = {line.name for line in parameters.table()}
            values = {new.name: new.value for new in changed if new.name in names}
            try:
                self._session.check_settings(dataclasses.replace(self._settings, **values))
            except ValueError as error:
                reason = str(error)
        return SetParametersResult(successful=not reason, reason=reason or "")

    def _parameters_changed(self, changed: list) -> None:
        self._settings = parameters.read(self)
        self._publisher.settings = self._settings
        if self._session:
            self._session.change_settings(self._settings)

    # --- Commands ---

    def _take(self, command: Command) -> None:
        if not self._session:
            raise CommandError("not active", "the simulator is not active; activate it first")
        self._session.add(command)

    def _refuse(self, topic: str, error: CommandError) -> None:
        if error.reason == "queue full":
            self._counters.dropped += 1
        else:
            self._counters.refused += 1
        self._warn_refused(topic, error)

    def _refuse_observation(self, topic: str, error: CommandError) -> None:
        self._counters.observations_refused += 1
        self._warn_refused(topic, error)

    def _warn_refused(self, topic: str, error: CommandError) -> None:
        held_back = self._throttle.passes(f"{topic}: {error.reason}", time.monotonic())
        if held_back is not None:
            more = f" (and {held_back} like it)" if held_back else ""
            self.get_logger().warning(f"{topic} refused: {error}{more}")

    async def _reset(self, request: Reset.Request, response: Reset.Response) -> Reset.Response:
        if not self._session:
            response.message = "the simulator is not configured"
            return response
        started = self._session.start_world(request.source, request.seed, request.prompt)
        try:
            world = await self._completed(started)
        except Exception as error:  # whatever is wrong with what was named
            response.message = str(error)
            self.get_logger().warning(f"reset refused: {error}")
            return response
        response.success = True
        response.message = world.description
        response.seed = world.seed
        response.start_pose = self._pose_message(world.pose)
        return response

    async def _completed(self, future: Future) -> Any:
        """Return a future's result, or raise its exception; other callbacks run meanwhile."""
        answered = RosFuture(executor=self.executor)
        future.add_done_callback(lambda _: self._post_box.post(lambda: answered.set_result(None)))
        await answered
        return future.result()

    def _pose_message(self, pose: np.ndarray) -> PoseStamped:
        """Return an optical pose [4, 4] as a message in the world frame."""
        if self._settings.pose_convention == "body":
            pose = conversions.optical_to_body(pose)
        return conversions.pose_stamped_message(pose, self._header(self._settings.world_frame))

    # --- Time ---

    def _frames_came(self, batch: FrameBatch) -> None:
        # On the simulation thread.
        self._publisher.put(batch)
        self._post_box.post(self._publish_frames)

    def _tick(self) -> None:
        now = time.monotonic()
        # No more than two ticks: after a busy spell commands that came meanwhile lie unread.
        elapsed = min(now - self._last_tick, 2 * TICK)
        self._last_tick = now
        self._post_box.run()  # what it was not woken for
        if self._session:
            self._session.steps.idle(elapsed)
            self._observations.match()

    def _publish_frames(self) -> None:
        wait = self._publisher.publish_due()
        if wait is None:
            self._frame_timer.cancel()
        else:
            self._frame_timer.timer_period_ns = int(wait * 1e9)
            self._frame_timer.reset()
        if self._session:
            self._session.steps.pump()

    def _every_second(self) -> None:
        self._inputs.detect_twist_type()
        self._diagnostics.publish(
            diagnostic_message(self._status(), self.get_fully_qualified_name(), self._header())
        )

    def _header(self, frame: str = "") -> Header:
        return Header(stamp=self._publisher.now(), frame_id=frame)

    def _status(self) -> Status:
        mode = self._settings.mode
        if not self._session:
            return Status(state="unconfigured", mode=mode, counters=self._counters)
        return self._session.status()


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted; the exit code is 0 then, 2 for wrong arguments."""
    use_dds_profile()
    let_idle_threads_sleep()
    keep_freed_memory()  # before there are threads
    try:
        start_ros(args)
    except RosStartError as error:
        print(f"hydra_simulator: {error}", file=sys.stderr)
        return 2
    node = None
    try:
        node = SimulatorNode()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (
        InvalidParameterTypeException,
        InvalidParameterValueException,
        parameters.ParameterError,
    ) as error:
        print(f"hydra_simulator: {error}", file=sys.stderr)
        return 2
    except Exception:
        # After a signal, callbacks that were under way find the middleware gone.
        if rclpy.ok():
            raise
    finally:
        # Under `ros2 launch`, Ctrl-C comes twice: from the terminal and from the launch tool.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if node:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
