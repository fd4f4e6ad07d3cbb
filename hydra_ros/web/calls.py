# SPDX-License-Identifier: Apache-2.0
"""What the page's buttons do: each is a service or the action of the simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from hydra_ros import srv
from hydra_ros.action import Rollout
from hydra_ros.action_client import cancel_when_accepted
from hydra_ros.web import protocol
from hydra_ros.web.bridge import Bridge
from hydra_ros.web.paths import relative_path
from hydra_ros.web.simulator_link import SimulatorLink
from hydra_ros.web.views import futures_view, state_view

# Seconds until a call is given up. A reset waits for its world, a load for the chunk under way.
PATIENCE = {"reset": 300.0, "load_state": 120.0, "commit": 120.0}
USUAL_PATIENCE = 60.0
ACCEPTED_IN = 30.0
IMAGINED_IN = 1800.0

Answer = tuple[dict[str, Any], list[bytes]]


class CallError(RuntimeError):
    """The simulator refused a call or did not answer it; the message is for the user."""


class Calls:
    """Performs the requests of browsers."""

    def __init__(self, bridge: Bridge, link: SimulatorLink) -> None:
        self._bridge = bridge
        self._link = link

    async def perform(
        self, request: protocol.Request, progress: Callable[[dict[str, Any]], None]
    ) -> Answer:
        """Return the answer to a request: its fields and blobs.

        Args:
            progress: gets how far a request is that takes long.

        Raises:
            CallError: refused, or no answer.
            simulator_link.Unavailable: the simulator does not offer it.
        """
        match request:
            case protocol.Reset(source=source, seed=seed):
                done = await self._call("reset", srv.Reset.Request(source=source, seed=seed))
                return {"message": done.message, "seed": done.seed}, []
            case protocol.SaveState(name=name, overwrite=overwrite, persistent=persistent):
                await self._call(
                    "save_state",
                    srv.SaveState.Request(name=name, overwrite=overwrite, persistent=persistent),
                )
                return {"message": f"saved {name}"}, []
            case protocol.LoadState(name=name):
                await self._call("load_state", srv.LoadState.Request(name=name))
                return {"message": f"went back to {name}"}, []
            case protocol.DeleteState(name=name):
                await self._call("delete_state", srv.DeleteState.Request(name=name))
                return {"message": f"deleted {name}"}, []
            case protocol.Commit(future=future):
                done = await self._call("commit", srv.Commit.Request(id=future))
                return {"message": "this future is the live world now", "time": done.time}, []
            case protocol.ShowThumbnails():
                value = Parameter("memory_thumbnails", value=True).to_parameter_msg()
                await self._set_parameter(value)
                return {"message": "pictures come with the next chunk"}, []
            case protocol.Imagine():
                return await self._imagine(request, progress)
        raise TypeError(f"{request} is not performed here")

    async def states(self) -> list[dict[str, Any]]:
        """Return the named states, oldest first."""
        listed = await self._call("list_states", srv.ListStates.Request())
        return [state_view(state, self._link.convention) for state in listed.states]

    async def _set_parameter(self, value: ParameterMessage) -> None:
        request = SetParameters.Request(parameters=[value])
        response = await self._ask("set_parameters", request)
        result = response.results[0]
        if not result.successful:
            raise CallError(result.reason or f"{value.name} was not accepted")

    async def _call(self, name: str, request: Any) -> Any:
        response = await self._ask(name, request)
        if not response.success:
            raise CallError(response.message or f"{name} was refused")
        return response

    async def _ask(self, name: str, request: Any) -> Any:
        patience = PATIENCE.get(name, USUAL_PATIENCE)
        try:
            return await self._bridge.ask(lambda: self._link.call(name, request), patience)
        except TimeoutError as error:
            raise CallError(f"{name}: {error}") from None

    async def _imagine(
        self, request: protocol.Imagine, progress: Callable[[dict[str, Any]], None]
    ) -> Answer:
        frame = self._link.parameters["camera_frame"]
        goal = Rollout.Goal(encoding="jpeg", keep=True)
        goal.paths = [
            relative_path(velocity, request.seconds, frame) for velocity in request.velocities
        ]
        loop_progress = self._bridge.on_loop(progress)

        def feedback(message: Any) -> None:
            done = message.feedback
            loop_progress(
                {"done": done.frames_done, "total": done.frames_total, "left": done.time_left_s}
            )

        sent: list[Any] = []

        def send() -> Any:
            sent.append(self._link.imagine(goal, feedback))
            return sent[0]

        try:
            try:
                handle = await self._bridge.ask(send, ACCEPTED_IN)
            except BaseException:  # cancelled before the simulator answered
                self._bridge.post(lambda: [cancel_when_accepted(goal) for goal in sent])
                raise
            if not handle.accepted:
                raise CallError("the simulator refused to imagine these futures; its log says why")
            try:
                finished = await self._bridge.ask(handle.get_result_async, IMAGINED_IN)
            except BaseException:  # cancelled, above all
                self._bridge.post(handle.cancel_goal_async)
                raise
        except TimeoutError as error:
            raise CallError(f"rollout: {error}") from None
        if finished.status != GoalStatus.STATUS_SUCCEEDED:
            raise CallError(finished.result.message or "the futures were given up")
        futures, images = futures_view(finished.result.futures, self._link.convention)
        answer = {"futures": futures, "seconds": request.seconds, "took": finished.result.total_s}
        return answer, images
