# SPDX-License-Identifier: Apache-2.0
"""The standard services of entities: the one entity of a learned world is its camera."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path

from hydra_ros import conversions
from hydra_ros.commands import CameraFrames, CommandError
from hydra_ros.parameters import Settings
from hydra_ros.session import Session
from hydra_ros.standard_interfaces import Refusal, StandardServices

CAMERA = "camera"
TAGS = ("camera",)
INVALID_POSE = 101


class EntityServices:
    """Serves entities, their infos and states.

    A pose that is set is that of the next frame, whatever the speed limits; until that frame is
    there, it is the one that is answered.
    """

    def __init__(
        self,
        services: StandardServices,
        session: Callable[[], Session],
        settings: Callable[[], Settings],
    ) -> None:
        self._services = services
        self._session = session
        self._settings = settings
        self._placed: tuple[int, int, np.ndarray] | None = None  # run, frames published, pose
        for kind, answer in (
            ("GetEntities", self._get_entities),
            ("GetEntitiesStates", self._get_states),
            ("GetEntityInfo", self._get_info),
            ("GetEntityState", self._get_state),
            ("SetEntityState", self._set_state),
        ):
            services.serve(kind, answer)

    async def _get_entities(self, request: Any, response: Any) -> None:
        self._session()
        response.entities = [CAMERA] if self._matches(request.filters) else []

    async def _get_states(self, request: Any, response: Any) -> None:
        session = self._session()
        if self._matches(request.filters):
            response.entities = [CAMERA]
            response.states = [self._state(session)]

    async def _get_info(self, request: Any, response: Any) -> None:
        self._check(request.entity)
        self._session()
        info = response.info
        info.category.category = info.category.CATEGORY_ROBOT
        info.description = "the camera that the world is seen through"
        info.tags = list(TAGS)

    async def _get_state(self, request: Any, response: Any) -> None:
        self._check(request.entity)
        response.state = self._state(self._session())

    async def _set_state(self, request: Any, response: Any) -> None:
        self._check(request.entity)
        session = self._session()
        failed = self._services.Result.RESULT_OPERATION_FAILED
        # Version 2 says what is to be set; before it, everything is.
        if getattr(request, "set_twist", True) and _moves(request.state.twist):
            raise Refusal(failed, "the camera has no velocity of its own; leave the twist zero")
        if getattr(request, "set_acceleration", True) and _moves(request.state.acceleration):
            raise Refusal(failed, "the camera has no acceleration; leave it zero")
        if not getattr(request, "set_pose", True):
            return
        settings = self._settings()
        frames = CameraFrames(
            world=settings.world_frame,
            body=settings.camera_frame,
            optical=settings.optical_frame,
            pose_convention=settings.pose_convention,
        )
        pose = PoseStamped(pose=request.state.pose)
        pose.header.frame_id = request.state.header.frame_id
        try:
            # A path of one pose is followed exactly in either mode; a goal pose is approached.
            command = frames.read_path(Path(poses=[pose]))
            if command.relative:
                raise CommandError("relative", "only poses in the world frame can be set")
        except CommandError as error:
            raise Refusal(INVALID_POSE, str(error)) from None
        try:
            session.add(command)
        except CommandError as error:
            raise Refusal(failed, str(error)) from None
        self._placed = (session.run, session.publisher.published, command.poses[-1])

    def _check(self, entity: str) -> None:
        if entity != CAMERA:
            raise Refusal(
                self._services.Result.RESULT_NOT_FOUND,
                f"there is no entity {entity!r}; there is {CAMERA!r}",
            )

    def _matches(self, filters: Any) -> bool:
        Result = self._services.Result
        if filters.bounds.type != filters.bounds.TYPE_EMPTY:
            raise Refusal(
                Result.RESULT_FEATURE_UNSUPPORTED, "filtering by bounds is not supported"
            )
        try:
            named = not filters.filter or re.search(filters.filter, CAMERA) is not None
        except re.error as error:
            raise Refusal(
                Result.RESULT_OPERATION_FAILED,
                f"the filter {filters.filter!r} is no regular expression: {error}",
            ) from None
        categories = [wanted.category for wanted in filters.categories]
        robot = self._services.interfaces.find("msg", "EntityCategory").CATEGORY_ROBOT
        fits = not categories or robot in categories
        return named and fits and tags_match(filters.tags, TAGS)

    def _state(self, session: Session) -> Any:
        settings = self._settings()
        pose = session.publisher.shown_pose
        if self._placed and self._placed[:2] == (session.run, session.publisher.published):
            pose = self._placed[2]
        if settings.pose_convention == "body":
            pose = conversions.optical_to_body(pose)
        state = self._services.interfaces.find("msg", "EntityState")()
        state.header.frame_id = settings.world_frame
        state.header.stamp = self._services.now()
        state.pose = conversions.pose_to_message(pose)
        return state


def tags_match(wanted: Any, tags: Iterable[str]) -> bool:
    """Return whether tags pass a ``TagsFilter``; an empty one lets everything through."""
    found = [tag in tags for tag in wanted.tags]
    if not found:
        return True
    return all(found) if wanted.filter_mode == wanted.FILTER_MODE_ALL else any(found)


def _moves(motion: Any) -> bool:
    parts = (motion.linear, motion.angular)
    return any(value != 0.0 for part in parts for value in (part.x, part.y, part.z))
