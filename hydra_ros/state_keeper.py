# SPDX-License-Identifier: Apache-2.0
"""The states of a session: saved, listed and deleted beside the world that runs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rclpy.impl.rcutils_logger import RcutilsLogger

from hydra_ros.environment import ros_home
from hydra_ros.simulation_thread import WorldFacts
from hydra_ros.state_store import SavedState, StateError, StateFacts, StateStore
from hydra_ros.throttle import Throttle

AUTOSAVE = "autosave"  # the state that is kept up to date


class WorldFiles:
    """How a loaded world writes and reads states; ``world`` returns it."""

    def __init__(self, world: Callable[[], Any]) -> None:
        self._world = world

    def write(self, folder: Path, snapshot: Any, about: dict[str, Any]) -> None:
        self._world().save(folder, snapshot, about=about)

    def read(self, folder: Path) -> Any:
        return self._world().read_state(folder)

    def read_facts(self, folder: Path) -> dict[str, Any]:
        from hydra_model.state_files import read_facts

        return read_facts(folder)


class StateKeeper:
    """Works on a thread of its own, in the order of the requests: a disk may be slow.

    Args:
        folder: the parameter ``states_folder``.
        world: returns the loaded world.
        logger: the node's.
    """

    def __init__(self, folder: str, world: Callable[[], Any], logger: RcutilsLogger) -> None:
        path = Path(folder).expanduser() if folder else ros_home() / "hydra_ros" / "states"
        self.store = StateStore(path, WorldFiles(world))
        self._logger = logger
        self._worker = ThreadPoolExecutor(1, "states")
        self._newest: deque[tuple[WorldFacts, str]] = deque(maxlen=1)
        self._throttle = Throttle(60.0)

    def save(
        self, name: str, facts: WorldFacts, world: str, *, overwrite: bool, persistent: bool
    ) -> Future[StateFacts]:
        """Save a world as it was at the time of its ``facts``; ``world`` describes it."""
        state = _state(name, facts, world, persistent)
        return self._worker.submit(self.store.save, state, overwrite=overwrite)

    def list(self) -> Future[list[StateFacts]]:
        """Return the facts of all states, oldest first."""
        return self._worker.submit(self.store.list)

    def delete(self, name: str) -> Future[None]:
        """Forget a state."""
        return self._worker.submit(self.store.delete, name)

    def autosave(self, facts: WorldFacts, world: str) -> None:
        """Bring the state ``autosave`` up to date; where the disk is slow, only the newest is."""
        self._newest.append((facts, world))
        self._worker.submit(self._write_newest)

    def resumable(self) -> bool:
        """Return whether there is an ``autosave`` to go on from; half of one is warned of."""
        if AUTOSAVE not in self.store:
            return False
        if any(facts.name == AUTOSAVE for facts in self.store.list()):
            return True
        self._logger.warning(
            f"resume: {self.store.folder / AUTOSAVE} is not a whole state; starting anew"
        )
        return False

    def close(self) -> None:
        """Finish what was asked for, the newest autosave too."""
        self._worker.shutdown(wait=True)

    def _write_newest(self) -> None:
        if not self._newest:
            return
        try:
            self.store.save(_state(AUTOSAVE, *self._newest.pop(), True), overwrite=True)
        except StateError as error:
            if self._throttle.passes("autosave", time.monotonic()) is not None:
                self._logger.error(f"autosave: {error}")


def _state(name: str, facts: WorldFacts, world: str, persistent: bool) -> SavedState:
    about = StateFacts(
        name=name,
        time=facts.time,
        memory_frames=facts.memory_size,
        memory_bytes=facts.memory_bytes,
        pose=facts.pose,
        model=facts.name,
        world=world,
        saved_at=time.time_ns(),
        persistent=persistent,
    )
    return SavedState(facts=about, snapshot=facts.state)
