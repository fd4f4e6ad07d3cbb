# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker's process: a world whose states come from elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hydra_model.imagination import Imagination, Imagined
from hydra_model.workers.batches import Batch, BatchDone, ChunkNews
from hydra_model.workers.packed_states import PackedState, Packer, StateCache
from hydra_model.world import Cancelled, World


class WeightsMismatch(ValueError):
    """A worker has other weights than the world whose futures it is to imagine."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a worker loads the world: arguments of ``World.load``, as they hold on its machine.

    A ``model`` other than "default" is a folder that every machine has under the same path;
    ``options`` are further arguments.
    """

    model: str | Path = "default"
    device: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)

    def load(self) -> World:
        """Load the world; raises what ``World.load`` does."""
        return World.load(self.model, device=self.device, **self.options)


class Worker:
    """Imagines batches of candidates, one at a time; ``cancel`` may come on another thread.

    Args:
        world: whose model is used.
        weights: the fingerprint that its weights must have; "" takes any.
    """

    def __init__(self, world: World, weights: str = "") -> None:
        if weights and world.weights != weights:
            raise WeightsMismatch(
                f"the worker's model {world.config.name!r} has the weights {world.weights}; "
                f"those that are asked for are {weights}"
            )
        self.world = world
        self._packer = Packer(world.config, world.weights)
        self._states = StateCache(self._packer, world.device)
        self._cancelled = -1  # number of a batch

    def missing(self, state: PackedState) -> list[str]:
        """Return the hashes of what has to be sent before a state can be imagined from."""
        return self._states.missing(state)

    def accept(self, state: PackedState, contents: Mapping[str, bytes]) -> None:
        """Take contents of a state; raises ``StateError`` if one is not what its hash says."""
        self._states.accept(state, contents)

    def cancel(self, number: int) -> None:
        """Give up a batch before its next slice of work, if it is the one that runs."""
        self._cancelled = number

    def imagine(self, batch: Batch) -> Iterator[list[ChunkNews] | BatchDone]:
        """Imagine a batch; yields news of its members as each chunk is there, then the end.

        Raises ``StateError`` for a state that is not here or not of this model, and
        ``Cancelled`` when it was given up.
        """
        world = self.world
        if world.device.type == "cpu":
            # As many workers as cores use them all, and the number of threads, which products
            # are rounded by, is the same however many there are.
            torch.set_num_threads(1)
        world.memory_policy = batch.memory_policy
        news: deque[list[ChunkNews]] = deque()
        place = {member: i for i, member in enumerate(batch.members)}

        def on_chunk(parts: list[Imagined]) -> None:
            news.append(
                [self._news(batch, place[part.candidate, part.sample], part) for part in parts]
            )

        work = Imagination(
            world, self._states.open(batch.state), batch.paths, every=batch.every,
            chunk_frames=batch.chunk_frames, batch=len(batch.members), on_chunk=on_chunk,
            members=batch.members,
        )  # fmt: skip
        for _ in work.slices():
            if self._cancelled == batch.number:
                raise Cancelled("imagination was given up")
            while news:
                yield news.popleft()
        while news:
            yield news.popleft()
        yield BatchDone(seconds=work.seconds, widest=work.widest)

    def _news(self, batch: Batch, member: int, part: Imagined) -> ChunkNews:
        packed, contents = None, {}
        if batch.states:
            (state,) = part.states
            packed = self._packer.pack(state)
            newest = self._packer.hash(state.memory.segments[-1])
            contents = self._packer.contents(state, [newest])
        return ChunkNews(
            member=member, seed=part.seed, indices=part.indices, poses=part.poses,
            frames=part.frames, end=part.ends[0], state=packed, contents=contents,
        )  # fmt: skip
