# SPDX-License-Identifier: Apache-2.0
"""Named states of a world: kept in memory, and on disk where they are to outlive the node.

On disk a state is a folder NAME in the states folder, as ``hydra_model.state_files`` writes it:
``state.json`` comes last and says what is complete.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hydra_model.cameras import check_poses

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class StateError(ValueError):
    """A state that cannot be saved, loaded or deleted; nothing has changed."""


@dataclass(frozen=True, kw_only=True)
class StateFacts:
    """What is known of a state without reading it.

    ``time`` in simulated seconds, ``pose`` [4, 4] of the optical frame, ``saved_at`` wall time
    in nanoseconds.
    """

    name: str
    time: float
    memory_frames: int
    memory_bytes: int
    pose: np.ndarray
    model: str
    world: str
    saved_at: int
    persistent: bool


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """A state to go on from: its facts, and the snapshot that its world took."""

    facts: StateFacts
    snapshot: Any

    continues = False

    @property
    def description(self) -> str:
        """What world it is of, in words."""
        return self.facts.world

    @property
    def seed(self) -> int:
        """Seed of its noise."""
        return self.snapshot.seed

    @property
    def pose(self) -> np.ndarray:
        """Optical pose [4, 4] of its last frame."""
        return self.facts.pose

    def begin(self, world: Any) -> None:
        """Make it the live world of a ``hydra_model.world.World``."""
        world.restore(self.snapshot)


def check_name(name: str) -> str:
    """Return a state's name.

    Raises:
        StateError: it could be more than the name of a folder.
    """
    if not NAME.fullmatch(name):
        raise StateError(
            f"state name {name!r} is not accepted; use letters, digits, '.', '_' and '-', at most "
            "64, not starting with a dot"
        )
    return name


class StateFiles(Protocol):
    """How snapshots are written and read, by any thread; every failure is a ``ValueError``."""

    def write(self, folder: Path, snapshot: Any, about: dict[str, Any]) -> None:
        """Write a snapshot in place of the one that the folder may hold; all or nothing."""

    def read(self, folder: Path) -> Any:
        """Return the snapshot in a folder."""

    def read_facts(self, folder: Path) -> dict[str, Any]:
        """Return what is known of it: time, pose, model, memory_frames, memory_bytes, about."""


class StateStore:
    """Keeps states by name, in memory and in ``folder``; may be called from any thread."""

    def __init__(self, folder: Path, files: StateFiles) -> None:
        self.folder = folder
        self._files = files
        self._lock = threading.RLock()
        self._in_memory: dict[str, SavedState] = {}

    def save(self, state: SavedState, *, overwrite: bool = False) -> StateFacts:
        """Keep a state under the name in its facts, on disk too where they say persistent.

        Raises:
            StateError: a bad name, one that is taken, or it cannot be written.
        """
        name = check_name(state.facts.name)
        with self._lock:
            if name in self and not overwrite:
                raise StateError(
                    f"there is a state {name!r} already; set overwrite, or take another name"
                )
            if state.facts.persistent:
                self._write(state)
            elif self._on_disk(name):
                self._remove(name)
            self._in_memory[name] = state
        return state.facts

    def load(self, name: str) -> SavedState:
        """Return a state, read from disk where it is not in memory.

        Raises:
            StateError: there is no such state, or it cannot be read.
        """
        with self._lock:
            if check_name(name) in self._in_memory:
                return self._in_memory[name]
            path = self._checked_folder(name)
            try:
                return SavedState(facts=self._facts(path), snapshot=self._files.read(path))
            except ValueError as error:
                raise StateError(f"state {name!r} cannot be used: {error}") from error

    def list(self) -> list[StateFacts]:
        """Return the facts of all states, oldest first; what is no state of ours is left out."""
        with self._lock:
            found = {facts.name: facts for facts in self._readable()}
            found.update({name: state.facts for name, state in self._in_memory.items()})
        return sorted(found.values(), key=lambda facts: facts.saved_at)

    def delete(self, name: str) -> None:
        """Forget a state, in memory and on disk.

        Raises:
            StateError: there is no such state, or its files cannot be removed.
        """
        with self._lock:
            if check_name(name) not in self:
                raise self._unknown(name)
            if self._on_disk(name):
                self._remove(name)
            self._in_memory.pop(name, None)

    def __contains__(self, name: str) -> bool:
        with self._lock:
            return name in self._in_memory or self._on_disk(name)

    # --- Disk ---

    def _on_disk(self, name: str) -> bool:
        return os.path.lexists(self.folder / name)

    def _checked_folder(self, name: str) -> Path:
        if not self._on_disk(name):
            raise self._unknown(name)
        path = self.folder / name
        for part in (path, *path.rglob("*")):
            if part.is_symlink():
                raise StateError(
                    f"{part} is a symbolic link, which may lead out of the states folder; "
                    "a state is a folder of plain files"
                )
        return path

    def _readable(self) -> Iterator[StateFacts]:
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if NAME.fullmatch(path.name):
                # Junk, or half of a state, is left out: loading it says what is wrong.
                with suppress(ValueError, OSError):
                    yield self._facts(self._checked_folder(path.name))

    def _facts(self, path: Path) -> StateFacts:
        facts = self._files.read_facts(path)
        try:
            return StateFacts(
                name=path.name,
                time=float(facts["time"]),
                memory_frames=int(facts["memory_frames"]),
                memory_bytes=int(facts["memory_bytes"]),
                pose=check_poses([facts["pose"]], "pose")[0],
                model=str(facts["model"]),
                world=str(facts["about"]["world"]),
                saved_at=int(facts["about"]["saved_at"]),
                persistent=True,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} does not say what it is: {error!r}") from error

    def _write(self, state: SavedState) -> None:
        facts = state.facts
        path = self.folder / facts.name
        if self._on_disk(facts.name):
            self._check_ours(path)
        about = {"world": facts.world, "saved_at": facts.saved_at}
        try:
            self._files.write(path, state.snapshot, about)
        except (OSError, ValueError) as error:
            raise StateError(
                f"state {facts.name!r} cannot be written to {self.folder}: {error}"
            ) from error

    def _check_ours(self, path: Path) -> None:
        """Refuse to replace or remove what is not a state: a user's files are not ours."""
        written = ("state.json", "memory-*.safetensors")
        if path.is_symlink() or not any(True for name in written for _ in path.glob(name)):
            raise StateError(f"{path} is no state; it is left as it is")

    def _remove(self, name: str) -> None:
        path = self.folder / name
        self._check_ours(path)
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise StateError(f"state {name!r} cannot be removed: {error}") from error

    def _unknown(self, name: str) -> StateError:
        names = [facts.name for facts in self.list()]
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        return StateError(f"there is no state {name!r}; there is {listed or 'none'}")
