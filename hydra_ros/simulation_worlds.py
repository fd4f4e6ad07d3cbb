# SPDX-License-Identifier: Apache-2.0
"""The standard services of worlds: a world is what a simulation starts from."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra_ros.context_preparer import STATE
from hydra_ros.parameters import Settings
from hydra_ros.session import Session
from hydra_ros.simulation_entities import tags_match
from hydra_ros.simulation_state import SimulationStates
from hydra_ros.standard_interfaces import Refusal, StandardServices
from hydra_ros.starting_world import clip_names

PROCEDURAL = re.compile(r"procedural(?::(\d{1,30}))?")
NO_WORLD_LOADED = 101
NO_RESOURCE = 102
RESOURCE_PARSE_ERROR = 103


@dataclass(frozen=True, kw_only=True)
class AvailableWorld:
    """A world that can be loaded by its ``uri``."""

    uri: str
    description: str
    tag: str


class WorldServices:
    """Lists and loads worlds: ``procedural[:SEED]``, clips by name, ``state:NAME``."""

    def __init__(
        self,
        services: StandardServices,
        session: Callable[[], Session | None],
        states: SimulationStates,
        settings: Callable[[], Settings],
        completed: Callable[[Future], Awaitable[Any]],
    ) -> None:
        self._services = services
        self._session = session
        self._states = states
        self._settings = settings
        self._completed = completed
        self._loaded = (-1, "")  # the number of the world that was loaded last, and its uri
        for kind, answer in (
            ("GetAvailableWorlds", self._get_available),
            ("GetCurrentWorld", self._get_current),
            ("LoadWorld", self._load),
        ):
            services.serve(kind, answer)

    async def _get_available(self, request: Any, response: Any) -> None:
        if request.additional_sources and not request.continue_on_error:
            raise Refusal(
                self._services.Result.RESULT_FEATURE_UNSUPPORTED,
                "additional sources are not supported; worlds come from the parameter "
                "clips_folder and from the saved states",
            )
        kind = self._services.interfaces.find("msg", "WorldResource")
        for world in await self._available():
            if tags_match(request.filter, [world.tag]):
                message = kind(name=world.uri, description=world.description, tags=[world.tag])
                message.world_resource.uri = world.uri
                response.worlds.append(message)

    async def _get_current(self, request: Any, response: Any) -> None:
        session = self._session()
        if session is None or session.state == "no world" or not session.world:
            raise Refusal(NO_WORLD_LOADED, "no world is loaded")
        response.world.name = session.world
        response.world.description = session.world
        number, uri = self._loaded
        if number == session.worlds:  # the one that was loaded by its uri, and can be again
            response.world.name = response.world.world_resource.uri = uri

    async def _load(self, request: Any, response: Any) -> None:
        # Version 2 nests what the versions before have side by side.
        resource = getattr(request, "world_resource", request)
        if not resource.uri and not resource.resource_string:
            raise Refusal(NO_RESOURCE, "neither a uri nor a resource_string is given")
        if not resource.uri:
            raise Refusal(
                self._services.Result.RESULT_FEATURE_UNSUPPORTED,
                "worlds are loaded by their uri (procedural:SEED, a clip's name, state:NAME)",
            )
        session = self._session()
        if session is None:
            raise Refusal(
                self._services.Result.RESULT_INCORRECT_STATE, "the simulator is not configured"
            )
        source, seed = resource.uri, 0
        if match := PROCEDURAL.fullmatch(source):
            source, seed = "procedural", int(match[1] or 0)
        elif source not in {world.uri for world in await self._available()}:
            raise Refusal(NO_RESOURCE, f"there is no world {source!r}; see get_available_worlds")
        try:
            started = session.start_world(source, seed, "")
            world = await self._completed(self._states.stop_with(session, started))
        except ValueError as error:
            raise Refusal(RESOURCE_PARSE_ERROR, str(error)) from error
        self._loaded = session.worlds, resource.uri
        response.world.name = response.world.world_resource.uri = resource.uri
        response.world.description = world.description

    async def _available(self) -> list[AvailableWorld]:
        worlds = [
            AvailableWorld(
                uri="procedural",
                description="a made-up scene; procedural:SEED chooses one",
                tag="procedural",
            )
        ]
        folder = self._settings().clips_folder
        if folder and Path(folder).expanduser().is_dir():
            worlds += [
                AvailableWorld(uri=name, description=f"clip {name!r}", tag="clip")
                for name in sorted(clip_names(Path(folder).expanduser()))
            ]
        session = self._session()
        if session:
            worlds += [
                AvailableWorld(uri=f"{STATE}{facts.name}", description=facts.world, tag="state")
                for facts in await self._completed(session.states.list())
            ]
        return worlds
