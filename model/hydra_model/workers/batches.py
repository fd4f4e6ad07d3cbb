# SPDX-License-Identifier: Apache-2.0
"""What goes to a worker and what comes back: a batch of candidates, and news of its chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hydra_model.imagination import all_members
from hydra_model.workers.packed_states import PackedState
from hydra_model.world_model import Frames, Poses


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Candidates that a worker imagines as one batch.

    ``paths`` are optical poses [T, 4, 4], ``members`` the pairs (place in ``paths``, sample).
    ``number`` is another for every handing out. With ``states`` the states after the chunks come
    back.
    """

    number: int
    state: PackedState
    paths: tuple[Poses, ...]
    members: tuple[tuple[int, int], ...]
    every: int
    chunk_frames: int
    memory_policy: str
    states: bool


@dataclass(frozen=True, kw_only=True)
class ChunkNews:
    """What a chunk added to one member of a batch, as ``imagination.Imagined`` has it.

    ``member`` is its place in the batch, ``end`` how many frames lie before the chunk's end.
    ``state`` is the one after it, with the ``contents`` that the state before does not have.
    """

    member: int
    seed: int
    indices: npt.NDArray[np.int64]
    poses: Poses
    frames: Frames
    end: int
    state: PackedState | None = None
    contents: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BatchDone:
    """A batch is complete: seconds of computing by part, and how wide it really was."""

    seconds: dict[str, float]
    widest: int


def partition(lengths: Sequence[int], samples: int, width: int) -> list[list[tuple[int, int]]]:
    """Split candidates with so many frames each into batches; the longest paths come first.

    What runs as one batch is rounded together, so the batches follow from the goal and ``width``
    alone: how many workers there are, and which are fast, has no part in it. Only paths of equal
    length share a batch, so that it stays the same from chunk to chunk.
    """
    alike: dict[int, list[tuple[int, int]]] = {}
    for path, sample in all_members(len(lengths), samples):
        alike.setdefault(lengths[path], []).append((path, sample))
    return [
        alike[length][first : first + width]
        for length in sorted(alike, reverse=True)
        for first in range(0, len(alike[length]), width)
    ]
