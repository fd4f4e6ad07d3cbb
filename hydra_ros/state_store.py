# SPDX-License-Identifier: Apache-2.0
"""Named states of a world: kept in memory, and on disk where they are to outlive the node.

On disk a state is a folder NAME in the states folder, with what the world wrote in ``world/``
and the facts of it in ``about.json``. It is written under another name and renamed when it is
whole, so that a state which can be seen is complete.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
WORLD, ABOUT = "world", "about.json"
FORMAT = 1


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


class StateStore:
    """Keeps states by name; may be called from any thread.

    Args:
        folder: where persistent states are.
        write: writes a snapshot into a folder.
        read: returns the snapshot in a folder, or raises ``ValueError`` saying what is wrong.
    """

    def __init__(
        self, folder: Path, write: Callable[[Path, Any], None], read: Callable[[Path], Any]
    ) -> None:
        self.folder = folder
        self._write = write
        self._read = read
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
                self._write_whole(state)
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
            facts = self._facts(path)
            try:
                snapshot = self._read(path / WORLD)
            except (OSError, ValueError) as error:
                raise StateError(f"state {name!r} cannot be used: {error}") from error
            return SavedState(facts=facts, snapshot=snapshot)

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
        path = self.folder / name
        self._finish_replacement(name)
        return path.is_symlink() or path.exists()

    def _finish_replacement(self, name: str) -> None:
        """Bring back a state whose replacement ended between its two renames."""
        old = self._hidden(name, "old")
        if old.is_dir() and not (self.folder / name).exists():
            os.replace(old, self.folder / name)

    def _hidden(self, name: str, what: str) -> Path:
        return self.folder / f".{name}.{what}"

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
            hidden = re.fullmatch(r"\.(.+)\.old", path.name)
            name = hidden[1] if hidden else path.name
            if not NAME.fullmatch(name):
                continue
            try:
                yield self._facts(self._checked_folder(name))
            except (StateError, OSError):
                continue  # junk, or half of a state: loading it says what is wrong

    def _facts(self, path: Path) -> StateFacts:
        try:
            about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
            if about["format"] != FORMAT:
                raise ValueError(f"its format is {about['format']}, accepted is {FORMAT}")
            pose = np.array(about["pose"], dtype=np.float64)
            if pose.shape != (4, 4) or not np.isfinite(pose).all():
                raise ValueError("its pose is no 4x4 matrix of finite numbers")
            return StateFacts(
                name=path.name,
                time=float(about["time"]),
                memory_frames=int(about["memory_frames"]),
                memory_bytes=int(about["memory_bytes"]),
                pose=pose,
                model=str(about["model"]),
                world=str(about["world"]),
                saved_at=int(about["saved_at"]),
                persistent=True,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{path} is not a whole state; it was written only in part, or by something "
                f"else: {error}"
            ) from error

    def _write_whole(self, state: SavedState) -> None:
        facts = state.facts
        partial, old = self._hidden(facts.name, "partial"), self._hidden(facts.name, "old")
        path = self.folder / facts.name
        if self._on_disk(facts.name):
            self._check_ours(path)
        about = {
            "format": FORMAT,
            "time": facts.time,
            "memory_frames": facts.memory_frames,
            "memory_bytes": facts.memory_bytes,
            "pose": facts.pose.tolist(),
            "model": facts.model,
            "world": facts.world,
            "saved_at": facts.saved_at,
        }
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self._write(partial / WORLD, state.snapshot)
            (partial / ABOUT).write_text(json.dumps(about), encoding="utf-8")
            shutil.rmtree(old, ignore_errors=True)
            if path.exists():
                os.replace(path, old)
            os.replace(partial, path)
        except Exception as error:  # the disk, or whatever the world's writer raises
            shutil.rmtree(partial, ignore_errors=True)
            self._finish_replacement(facts.name)
            raise StateError(
                f"state {facts.name!r} cannot be written to {self.folder}: {error}"
            ) from error
        shutil.rmtree(old, ignore_errors=True)

    def _check_ours(self, path: Path) -> None:
        """Refuse to replace or remove what is not a state: a user's files are not ours."""
        if path.is_symlink() or not ((path / ABOUT).is_file() or (path / WORLD).is_dir()):
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


def default_folder(environment: dict[str, str] | os._Environ[str] = os.environ) -> Path:
    """Return where states go by default: ``hydra_ros/states`` in ROS's home (``~/.ros``)."""
    home = environment.get("ROS_HOME")
    return (Path(home) if home else Path("~/.ros").expanduser()) / "hydra_ros" / "states"
