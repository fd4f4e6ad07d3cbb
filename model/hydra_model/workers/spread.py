# SPDX-License-Identifier: Apache-2.0
"""The futures of a state along camera paths, imagined by a crew of workers.

The counterpart of ``imagination.Imagination``, which does the same in this process.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from hydra_model.cameras import check_poses
from hydra_model.imagination import Imagined
from hydra_model.state import State
from hydra_model.workers.batches import Batch, BatchDone, ChunkNews, partition
from hydra_model.workers.crew import Crew, Piece
from hydra_model.workers.packed_states import PackedState, Packer
from hydra_model.world import Cancelled, World

BATCH = 4  # narrow, so that there is something for every worker


class SpreadImagination:
    """The futures of ``state`` along candidate paths, on workers; nothing begins before ``start``.

    Args:
        crew: who computes.
        world: whose futures these are; it is only asked what it is, and may run meanwhile.
        state, paths, samples, every, chunk_frames, on_chunk: as for ``Imagination``; ``on_chunk``
            is called on threads of the crew, one at a time.
        batch: candidates in one batch; the frames depend on it by rounding, as they do there.
        priority: of two that wait the higher goes first.
        states: whether the results hold states, which have to be sent back.
        packer: packs the world's states; one for many goals reads each part of memory once.
    """

    def __init__(
        self,
        crew: Crew,
        world: World,
        state: State,
        paths: Sequence[npt.ArrayLike],
        *,
        samples: int = 1,
        every: int = 1,
        chunk_frames: int | None = None,
        batch: int = BATCH,
        on_chunk: Callable[[list[Imagined]], None] | None = None,
        priority: int = 0,
        states: bool = True,
        packer: Packer | None = None,
    ) -> None:
        if not paths:
            raise ValueError("there are no candidate paths; at least one is needed")
        if samples < 1 or every < 0 or batch < 1:
            raise ValueError(
                f"samples is {samples}, every {every}, batch {batch}; accepted: 1 or more, 0 or "
                "more, 1 or more"
            )
        self._paths = [check_poses(path, f"path {i}") for i, path in enumerate(paths)]
        self._crew = crew
        self._device = world.device
        self._keep = world.store.keep
        self._packer = packer or Packer(world.config, world.weights)
        self._packed: PackedState | None = None
        self._every = every
        self._chunk_frames = chunk_frames or world.max_chunk_frames
        self._policy = world.memory_policy
        self._states = states
        self._on_chunk = on_chunk
        self._lock = threading.RLock()
        lengths = [len(path) for path in self._paths]
        self._members: dict[Piece, list[tuple[int, int]]] = {}
        for members in partition(lengths, samples, batch):
            piece = Piece(self, functools.partial(self._batch, members))
            self._members[piece] = members
        self._parts: dict[tuple[int, int], list[Imagined]] = {
            member: [] for members in self._members.values() for member in members
        }
        self._told = dict.fromkeys(self._parts, 0)  # frames that were reported
        self._left = set(self._members)
        self.state = state
        self.priority = priority
        self.batch = batch
        self.widest = 0
        self.frames_done = 0
        self.frames_total = samples * sum(lengths)
        self.seconds = {"context": 0.0, "sampling": 0.0, "decoding": 0.0}
        self.on_start: Callable[[], None] = lambda: None  # a worker begins with the first batch
        self.done: Future[None] = Future()

    def start(self) -> None:
        """Hand the work to the crew; ``done`` is answered when all of it is there."""
        self._crew.submit(list(self._members))

    def cancel(self) -> None:
        """Give it up: ``done`` fails with ``Cancelled``, workers stop before their next slice."""
        self._crew.withdraw(self, Cancelled("imagination was given up"))

    def results(self) -> list[Imagined]:
        """Return all futures once it is done, samples of a candidate side by side."""
        return [_joined(self._parts[member]) for member in sorted(self._parts)]

    # --- For the crew ---

    @property
    def finished(self) -> bool:
        """Whether nothing is taken any more."""
        return self.done.done()

    def contents(self, wanted: list[str]) -> dict[str, bytes]:
        """Return contents of the state, by hash."""
        return self._packer.contents(self.state, wanted)

    def started(self) -> None:
        """Tell that a worker begins, the first time."""
        with self._lock:
            on_start, self.on_start = self.on_start, lambda: None
            on_start()

    def take(self, piece: Piece, news: list[ChunkNews] | BatchDone) -> None:
        """Take what a worker tells of a piece; what a lost worker told of it is replaced."""
        with self._lock:
            if self.finished:
                return
            if not isinstance(news, BatchDone):
                self._take_chunk(piece, news)
                return
            for part, value in news.seconds.items():
                self.seconds[part] += value
            self.widest = max(self.widest, news.widest)
            self._left.discard(piece)
            if not self._left:
                self.done.set_result(None)

    def finish(self, error: BaseException | None = None) -> None:
        """End it before it is complete."""
        with self._lock:
            if not self.finished:
                self.done.set_exception(error or Cancelled("imagination was given up"))

    def _take_chunk(self, piece: Piece, news: list[ChunkNews]) -> None:
        new = []
        for one in news:
            part = self._part(self._members[piece][one.member], one)
            member = part.candidate, part.sample
            # A piece that is imagined again begins anew, so that its chunks belong together.
            before = [old for old in self._parts[member] if old.ends[0] < one.end]
            self._parts[member] = [*before, part]
            if one.end > self._told[member]:
                self.frames_done += one.end - self._told[member]
                self._told[member] = one.end
                new.append(part)
        if new and self._on_chunk is not None:
            self._on_chunk(new)

    def _part(self, member: tuple[int, int], news: ChunkNews) -> Imagined:
        states: tuple[State, ...] = ()
        if news.state is not None:
            before = [part for part in self._parts[member] if part.ends[0] < news.end]
            base = before[-1].states[0] if before else self.state
            state = self._packer.unpack(news.state, news.contents, base, self._device)
            self._keep(state.memory.segments[-1].latents)
            states = (state,)
        return Imagined(
            candidate=member[0], sample=member[1], seed=news.seed, indices=news.indices,
            poses=news.poses, frames=news.frames, states=states, ends=(news.end,),
        )  # fmt: skip

    def _batch(self, members: list[tuple[int, int]], number: int) -> Batch:
        with self._lock:
            # Only now: reading a long memory takes a moment.
            self._packed = self._packed or self._packer.pack(self.state)
        numbers = sorted({path for path, _ in members})
        return Batch(
            number=number,
            state=self._packed,
            paths=tuple(self._paths[path] for path in numbers),
            members=tuple((numbers.index(path), sample) for path, sample in members),
            every=self._every,
            chunk_frames=self._chunk_frames,
            memory_policy=self._policy,
            states=self._states,
        )


def imagine(
    crew: Crew, world: World, state: State, paths: Sequence[npt.ArrayLike], **options: object
) -> list[Imagined]:
    """Return the futures of ``state`` along ``paths``; ``options`` are ``SpreadImagination``'s.

    Raises ``NoWorkers`` where no worker is left, or what the model raised.
    """
    work = SpreadImagination(crew, world, state, paths, **options)  # type: ignore[arg-type]
    work.start()
    work.done.result()
    return work.results()


def _joined(parts: list[Imagined]) -> Imagined:
    first = parts[0]
    return Imagined(
        candidate=first.candidate,
        sample=first.sample,
        seed=first.seed,
        indices=np.concatenate([part.indices for part in parts]),
        poses=np.concatenate([part.poses for part in parts]),
        frames=np.concatenate([part.frames for part in parts]),
        states=tuple(part.states[0] for part in parts if part.states),
        ends=tuple(part.ends[0] for part in parts),
    )
