# SPDX-License-Identifier: Apache-2.0
"""Imagined futures that may still come true: kept by id, and made the live world."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hydra_ros.simulation_thread import FrameBatch


class CommitError(ValueError):
    """A future that cannot be made live; nothing has changed."""


@dataclass(frozen=True, kw_only=True)
class KeptFuture:
    """A future, without its frames: they can be decoded again.

    ``states`` are those after each chunk and ``ends`` how many frames lie before each of them;
    ``poses`` [T, 4, 4] are the optical poses of all frames. ``origin`` is the state it starts
    from.
    """

    id: str
    origin: Any
    states: tuple[Any, ...]
    ends: tuple[int, ...]
    poses: np.ndarray
    seed: int

    def chunks_of(self, frames: int) -> int:
        """Return how many chunks the first ``frames`` frames are, 0 for all.

        Raises:
            CommitError: they end within a chunk.
        """
        if frames == 0:
            return len(self.ends)
        if frames not in self.ends:
            accepted = ", ".join(map(str, self.ends))
            raise CommitError(
                f"future {self.id!r} cannot be committed after {frames} frames, within a chunk; "
                f"accepted: {accepted}, or 0 for all {self.ends[-1]}"
            )
        return self.ends.index(frames) + 1


class FutureStore:
    """Keeps the futures of the last goal that asked for it."""

    def __init__(self) -> None:
        self._kept: dict[str, KeptFuture] = {}

    def keep(self, futures: Iterable[KeptFuture]) -> None:
        """Keep these in place of those before."""
        self._kept = {future.id: future for future in futures}

    def clear(self) -> None:
        """Forget all."""
        self._kept = {}

    def find(self, id: str) -> KeptFuture:
        """Return a kept future.

        Raises:
            CommitError: there is none of that id.
        """
        if id not in self._kept:
            kept = list(self._kept)
            listed = ", ".join(kept[:4]) + (", ..." if len(kept) > 4 else "")
            raise CommitError(
                f"there is no future {id!r}; kept {'is ' + listed if kept else 'are none'} (a "
                "future is kept if its goal says keep, until the next such goal or a new world)"
            )
        return self._kept[id]


class Commitment:
    """A world's start: a future's state after its first ``chunks`` chunks.

    Nothing is sampled again; the frames are decoded from what was imagined, as all of them are
    published. ``frames`` is filled by ``begin``.
    """

    continues = True

    def __init__(self, future: KeptFuture, chunks: int, description: str) -> None:
        self.description = description
        self.seed = future.seed
        self.pose = future.poses[future.ends[chunks - 1] - 1]
        self.before = future.origin.pose
        self.start_time = future.origin.time
        self.time = future.states[chunks - 1].time
        self.frames = np.zeros((0, 0, 0, 3), np.uint8)
        self._future = future
        self._chunks = chunks

    def begin(self, world: Any) -> None:
        """Make it the live world of a ``hydra_model.world.World``."""
        from hydra_model.imagination import last_frames

        states = self._future.states[: self._chunks]
        self.frames = np.concatenate([last_frames(world, state) for state in states])
        world.restore(states[-1])

    def batch(self, run: int, fps: float) -> FrameBatch:
        """Return its frames, as those of a run."""
        count = len(self.frames)
        return FrameBatch(
            run=run,
            frames=self.frames,
            poses=self._future.poses[:count],
            times=self.start_time + np.arange(1, count + 1) / fps,
            commanded=None,
        )
