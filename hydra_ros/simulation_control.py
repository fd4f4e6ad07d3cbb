# SPDX-License-Identifier: Apache-2.0
"""The standard control services (``simulation_interfaces`` 1.5, 1.6 and 2) of the simulator.

A step is one frame. Steps that are asked for together are simulated in as few chunks as
possible; they follow what was commanded, and hold the camera where nothing is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile
from rclpy.task import Future as RosFuture

from hydra_ros.parameters import Settings
from hydra_ros.session import Session
from hydra_ros.simulation_entities import EntityServices
from hydra_ros.simulation_state import SimulationState, SimulationStates
from hydra_ros.simulation_worlds import WorldServices
from hydra_ros.standard_interfaces import Refusal, StandardInterfaces, StandardServices
from hydra_ros.trajectory import chunk_lengths

POLL_SECONDS = 0.01
FEEDBACK_BURST = 4
FEEDBACK_DEPTH = 100  # kept for listeners that have not acknowledged
QUIT_AFTER = 0.3  # seconds, so that the answer is sent

# Result codes of single services; the common ones are constants of the message.
ALREADY_IN_TARGET_STATE = 101
STATE_TRANSITION_ERROR = 102
INCORRECT_TRANSITION = 103
SCOPE_TIME, SCOPE_STATE, SCOPE_SPAWNED, SCOPE_ALL = 1, 2, 4, 255

# Feature -> what has to be served for it; a constant that the installed version lacks is left
# out.
FEATURES = {
    "ENTITY_TAGS": ("GetEntities",),
    "ENTITY_CATEGORIES": ("GetEntities",),
    "ENTITY_STATE_GETTING": ("GetEntityState",),
    "ENTITY_STATE_SETTING": ("SetEntityState",),
    "ENTITY_INFO_GETTING": ("GetEntityInfo",),
    "SIMULATION_RESET": ("ResetSimulation",),
    "SIMULATION_RESET_STATE": ("ResetSimulation",),
    "SIMULATION_STATE_GETTING": ("GetSimulationState",),
    "SIMULATION_STATE_SETTING": ("SetSimulationState",),
    "SIMULATION_STATE_PAUSE": ("SetSimulationState",),
    "STEP_SIMULATION_SINGLE": ("StepSimulation",),
    "STEP_SIMULATION_MULTIPLE": ("StepSimulation",),
    "STEP_SIMULATION_ACTION": ("SimulateSteps",),
    "WORLD_LOADING": ("LoadWorld",),
    "WORLD_TAGS": ("GetAvailableWorlds",),
    "WORLD_INFO_GETTING": ("GetCurrentWorld",),
    "AVAILABLE_WORLDS": ("GetAvailableWorlds",),
}
ABOUT = (
    "hydra_ros, a learned world simulator. A step is one frame. The one entity is the camera; "
    "setting its pose moves it with the next frame. Worlds are starting contexts."
)


class SimulationControl:
    """Serves the standard's services and its action under the node's name.

    Args:
        node: the simulator's.
        session: returns the session, None while no model is loaded.
        settings: returns the node's parameters.
        completed: awaits a future of another thread.
        now: returns the time for stamps.
    """

    def __init__(
        self,
        node: LifecycleNode,
        session: Callable[[], Session | None],
        settings: Callable[[], Settings],
        completed: Callable[[Future], Awaitable[Any]],
        now: Callable[[], Time],
    ) -> None:
        self._node = node
        self._session = session
        self._settings = settings
        self._completed = completed
        self._states = SimulationStates(session)
        self._stepping = False
        self._waiting: list[tuple[Callable[[], bool], RosFuture]] = []
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        interfaces = StandardInterfaces()
        if not interfaces.installed:
            node.get_logger().info(
                "simulation_interfaces is not installed: no standard simulation control"
            )
            return
        group = ReentrantCallbackGroup()
        self._timer = node.create_timer(
            POLL_SECONDS, self._poll, clock=self._steady, callback_group=group
        )
        self._timer.cancel()
        services = self._services = StandardServices(node, interfaces, group, now)
        for kind, answer in (
            ("GetSimulatorFeatures", self._get_features),
            ("GetSimulationState", self._get_state),
            ("SetSimulationState", self._set_state),
            ("ResetSimulation", self._reset),
            ("StepSimulation", self._step),
        ):
            services.serve(kind, answer)
        EntityServices(services, self.running_session, settings)
        WorldServices(services, session, self._states, settings, completed)
        self._action_type = interfaces.find("action", "SimulateSteps")
        if self._action_type is not None:
            services.served.add("SimulateSteps")
            self._action = ActionServer(
                node, self._action_type, "~/simulate_steps", self._simulate_steps,
                callback_group=group, cancel_callback=lambda handle: CancelResponse.ACCEPT,
                feedback_pub_qos_profile=QoSProfile(depth=FEEDBACK_DEPTH),
            )  # fmt: skip
        if interfaces.missing:
            node.get_logger().warning(
                "the installed simulation_interfaces lacks "
                f"{', '.join(sorted(set(interfaces.missing)))}: these are not served"
            )

    def running_session(self) -> Session:
        """Return the session of a world that is there; refuses otherwise."""
        session = self._session()
        state = self._states.state
        if session is None or state in (SimulationState.NO_WORLD, SimulationState.LOADING_WORLD):
            raise Refusal(
                self._services.Result.RESULT_INCORRECT_STATE,
                f"no world is there: the simulation is in state {state.name}",
            )
        return session

    # --- Features and state ---

    async def _get_features(self, request: Any, response: Any) -> None:
        features = type(response.features)
        response.features.features = [
            getattr(features, name)
            for name, needed in FEATURES.items()
            if hasattr(features, name) and self._services.served.issuperset(needed)
        ]
        response.features.custom_info = ABOUT

    async def _get_state(self, request: Any, response: Any) -> None:
        response.state.state = int(self._states.state)

    async def _set_state(self, request: Any, response: Any) -> None:
        now = self._states.state
        try:
            target = SimulationState(request.state.state)
        except ValueError:
            raise Refusal(
                INCORRECT_TRANSITION, f"there is no state {request.state.state}"
            ) from None
        if target == now:
            raise Refusal(ALREADY_IN_TARGET_STATE, f"the simulation is in state {now.name} already")
        if target == SimulationState.QUITTING:
            self._quit()
            return
        session = self._session()
        settable = (SimulationState.STOPPED, SimulationState.PLAYING, SimulationState.PAUSED)
        if session is None or target not in settable or now not in settable:
            raise Refusal(
                INCORRECT_TRANSITION, f"the simulation cannot go from {now.name} to {target.name}"
            )
        if not session.active:
            raise Refusal(STATE_TRANSITION_ERROR, "the node is not active; activate it first")
        if target == SimulationState.PLAYING:
            self._states.play(session)
            return
        self._states.pause(session)
        if target == SimulationState.STOPPED:
            try:
                restarted = self._states.restart(session)
                await self._completed(self._states.stop_with(session, restarted))
            except Exception as error:
                raise Refusal(STATE_TRANSITION_ERROR, str(error)) from error
        await self._until(lambda: self._settled(session))

    async def _reset(self, request: Any, response: Any) -> None:
        session = self.running_session()
        scope = request.scope or SCOPE_ALL
        if scope == SCOPE_ALL:
            started = session.start_world("", 0, "")
        elif scope & SCOPE_STATE and not scope & ~(SCOPE_STATE | SCOPE_TIME):
            started = self._states.restart(session)
        else:
            names = {SCOPE_TIME: "TIME alone", SCOPE_SPAWNED: "SPAWNED"}
            raise Refusal(
                self._services.Result.RESULT_FEATURE_UNSUPPORTED,
                f"scope {scope} ({names.get(scope, 'unknown')}) is not supported: nothing is "
                "spawned, and time belongs to the world's state; accepted: 0, 2 (STATE), "
                "3 (STATE and TIME), 255 (ALL)",
            )
        if self._states.state == SimulationState.STOPPED:
            self._states.stop_with(session, started)
        await self._completed(started)

    def _quit(self) -> None:
        session = self._session()
        if session:
            session.steps.paused = True
        self._states.quitting = True
        self._node.get_logger().info("quitting, as was asked for over set_simulation_state")
        self._node.create_timer(QUIT_AFTER, self._node.context.try_shutdown, clock=self._steady)

    # --- Steps ---

    async def _step(self, request: Any, response: Any) -> None:
        await self._simulate(request.steps)

    async def _simulate_steps(self, handle: Any) -> Any:
        result = self._action_type.Result()
        total, told = handle.request.steps, 0

        def report(completed: int) -> bool:
            # A few at a time: listeners keep ten.
            nonlocal told
            for done in range(told + 1, min(completed, told + FEEDBACK_BURST) + 1):
                handle.publish_feedback(
                    self._action_type.Feedback(completed_steps=done, remaining_steps=total - done)
                )
                told = done
            return told == completed

        Result = self._services.Result
        try:
            await self._simulate(total, report, lambda: handle.is_cancel_requested)
        except Exception as error:
            code = getattr(error, "code", Result.RESULT_OPERATION_FAILED)
            result.result = self._services.refused("SimulateSteps", code, str(error))
            handle.abort()
            return result
        if handle.is_cancel_requested and told < total:
            result.result = Result(
                result=Result.RESULT_OPERATION_FAILED,
                error_message=f"canceled after {told} of {total} steps",
            )
            handle.canceled()
            return result
        result.result = Result(result=Result.RESULT_OK)
        handle.succeed()
        return result

    async def _simulate(
        self,
        steps: int,
        report: Callable[[int], bool] = lambda completed: True,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Simulate and publish so many frames; refuses where that is not possible.

        ``report`` gets the frames published so far until it says that it has told of them.
        """
        failed = self._services.Result.RESULT_OPERATION_FAILED
        state = self._states.state
        if state != SimulationState.PAUSED:
            raise Refusal(failed, f"the simulation is in state {state.name}; pause it first")
        session, most = self._session(), self._settings().max_pending_frames
        if session is None or not session.active:
            raise Refusal(failed, "the node is not active; activate it first")
        if steps > most:
            raise Refusal(
                failed, f"{steps} steps; at most {most} at once (parameter max_pending_frames)"
            )
        if self._stepping:
            raise Refusal(failed, "other steps are being simulated")
        self._stepping = True
        try:
            await self._until(lambda: self._settled(session))
            done = 0
            for length in chunk_lengths(steps, session.steps.chunk_frames):
                if cancelled() or self._states.state != SimulationState.PAUSED:
                    break
                before = session.publisher.published

                def shown(before: int = before, done: int = done, length: int = length) -> bool:
                    count = min(session.publisher.published - before, length)
                    reported = report(done + count)
                    return (reported and count == length) or self._gone(session)

                await self._completed(session.advance(length))
                await self._until(shown)
                done += length
            if done < steps and not cancelled():
                raise Refusal(failed, f"interrupted after {done} of {steps} steps")
        finally:
            self._stepping = False

    # --- Waiting ---

    def _gone(self, session: Session) -> bool:
        return self._session() is not session or not session.active

    def _settled(self, session: Session) -> bool:
        """Whether everything that was simulated has been published."""
        return self._gone(session) or not (session.steps.busy or session.publisher.waiting)

    async def _until(self, condition: Callable[[], bool]) -> None:
        if condition():
            return
        came = RosFuture(executor=self._node.executor)
        self._waiting.append((condition, came))
        self._timer.reset()
        await came

    def _poll(self) -> None:
        waiting, self._waiting = self._waiting, []
        for condition, came in waiting:
            if condition():
                came.set_result(None)
            else:
                self._waiting.append((condition, came))
        if not self._waiting:
            self._timer.cancel()
