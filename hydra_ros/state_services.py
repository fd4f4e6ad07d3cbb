# SPDX-License-Identifier: Apache-2.0
"""The services of named states: save_state, load_state, list_states and delete_state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from hydra_ros.conversions import time_message
from hydra_ros.msg import StateInfo
from hydra_ros.session import Session
from hydra_ros.srv import DeleteState, ListStates, LoadState, SaveState
from hydra_ros.state_store import StateError, StateFacts


class StateServices:
    """Answers the services when what they ask for is done; meanwhile other callbacks run.

    Args:
        node: the node that serves.
        session: returns the running session, None while there is none.
        completed: waits for a future without holding up the executor.
        pose_message: turns an optical pose [4, 4] into a message in the world frame.
    """

    def __init__(
        self,
        node: Node,
        session: Callable[[], Session | None],
        completed: Callable[[Future], Awaitable[Any]],
        pose_message: Callable[[np.ndarray], PoseStamped],
    ) -> None:
        self._logger = node.get_logger()
        self._session = session
        self._completed = completed
        self._pose_message = pose_message
        group = ReentrantCallbackGroup()
        for kind, name, answer in (
            (SaveState, "save_state", self._save),
            (LoadState, "load_state", self._load),
            (ListStates, "list_states", self._list),
            (DeleteState, "delete_state", self._delete),
        ):
            node.create_service(
                kind, f"~/{name}", self._service(name, answer), callback_group=group
            )

    def _service(self, name: str, answer: Callable[..., Awaitable[None]]) -> Callable:
        async def serve(request: Any, response: Any) -> Any:
            try:
                session = self._session()
                if session is None:
                    raise StateError("the simulator is not configured")
                await answer(session, request, response)
                response.success = True
            except Exception as error:  # an answer in any case: the node must outlive it
                response.message = str(error)
                self._logger.warning(f"{name} refused: {error}")
            return response

        return serve

    async def _save(
        self, session: Session, request: SaveState.Request, response: SaveState.Response
    ) -> None:
        saving = session.save_state(
            request.name, overwrite=request.overwrite, persistent=request.persistent
        )
        facts = await self._completed(saving)
        response.state = self._message(facts)
        response.message = f"saved state {facts.name!r} at {facts.time:.3f} s"
        self._logger.info(response.message)

    async def _load(
        self, session: Session, request: LoadState.Request, response: LoadState.Response
    ) -> None:
        loaded = await self._completed(session.start_world(f"state:{request.name}", 0, ""))
        response.state = self._message(loaded.facts)
        response.message = f"loaded state {request.name!r} at {loaded.facts.time:.3f} s"

    async def _list(
        self, session: Session, request: ListStates.Request, response: ListStates.Response
    ) -> None:
        states = await self._completed(session.states.list())
        response.states = [self._message(facts) for facts in states]
        response.message = f"states on disk are in {session.states.store.folder}"

    async def _delete(
        self, session: Session, request: DeleteState.Request, response: DeleteState.Response
    ) -> None:
        await self._completed(session.states.delete(request.name))
        response.message = f"deleted state {request.name!r}"
        self._logger.info(response.message)

    def _message(self, facts: StateFacts) -> StateInfo:
        saved_at = time_message(facts.saved_at)
        pose = self._pose_message(facts.pose)
        pose.header.stamp = saved_at
        return StateInfo(
            name=facts.name,
            time=facts.time,
            memory_frames=facts.memory_frames,
            memory_bytes=facts.memory_bytes,
            pose=pose,
            model=facts.model,
            world=facts.world,
            saved_at=saved_at,
            persistent=facts.persistent,
        )
