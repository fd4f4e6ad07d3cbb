# SPDX-License-Identifier: Apache-2.0
"""Futures of a state along many camera paths at once, beside the live world.

The candidates of one state share its memory (a ``MemoryBank`` never changes) and, where they
remember the same frames, the context that is read from it. Their sampling steps run as one
batch. Each then goes on with a memory of its own, which adds only what it imagined itself.

The work is a chain of short slices: a context, one sampling step of a batch, a few decoded
frames. Whoever drives the chain may do other work in between, or stop.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hydra_model.autoencoder import video_to_frames
from hydra_model.blocks import Memory
from hydra_model.cameras import check_poses
from hydra_model.chunks import chunk_lengths
from hydra_model.conditioning import Targets, chunk_noise
from hydra_model.detail import DetailConditioning
from hydra_model.memory import Context
from hydra_model.rope import Rotation
from hydra_model.sampler import integrate
from hydra_model.state import State
from hydra_model.transformer import Conditioning
from hydra_model.world import Cancelled, Frames, Poses, World
from hydra_model.world_model import check_finite

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Imagined:
    """One candidate path, imagined once: all of it, or what one chunk added to it.

    ``indices [n]`` are the numbers of the frames that were wanted (0 is the first after the
    state), ``poses [n, 4, 4]`` their optical poses, ``frames`` uint8 ``[n, H, W, 3]``. ``states``
    are those after each chunk, ``ends`` how many frames lie before each of them.
    """

    candidate: int
    sample: int
    seed: int
    indices: npt.NDArray[np.int64]
    poses: Poses
    frames: Frames
    states: tuple[State, ...]
    ends: tuple[int, ...]


@dataclass
class _Task:
    """A candidate on its way."""

    candidate: int
    sample: int
    state: State
    poses: Poses
    lengths: list[int]
    wanted: npt.NDArray[np.int64]
    done: int = 0
    parts: list[Imagined] = field(default_factory=list)  # one a chunk

    @property
    def next_poses(self) -> Poses:
        return self.poses[self.done : self.done + self.lengths[len(self.parts)]]

    def result(self) -> Imagined:
        parts = self.parts
        return Imagined(
            candidate=self.candidate,
            sample=self.sample,
            seed=self.state.seed,
            indices=np.concatenate([part.indices for part in parts]),
            poses=np.concatenate([part.poses for part in parts]),
            frames=np.concatenate([part.frames for part in parts]),
            states=tuple(part.states[0] for part in parts),
            ends=tuple(part.ends[0] for part in parts),
        )


class Imagination:
    """The futures of ``state`` along candidate paths.

    Args:
        world: whose model is used; its live state is not touched.
        state: where every candidate starts (``World.state``, or a loaded one).
        paths: optical poses ``[T, 4, 4]`` of each candidate, one a frame; any lengths.
        samples: how often each is imagined. Sample 0 has the state's own seed, so its frames
            are those of ``World.step`` from that state; the others have seeds derived from it.
        every: 1 decodes all frames, n frames n-1, 2n-1, ... and the last, 0 the last alone.
        chunk_frames: longest chunk; by default the model's.
        batch: most candidates in one batch; may be changed between slices. Where the device's
            memory does not suffice it is halved, with a warning.
        on_chunk: gets what each chunk added to each of its batch's candidates.
        members: the pairs (path, sample) to imagine; by default each path with each sample.

    A batch's products are rounded otherwise than those of a single candidate, so frames may
    differ from ``World.step``'s by a few levels; with ``batch`` 1 they are the same.
    """

    def __init__(
        self,
        world: World,
        state: State,
        paths: Sequence[npt.ArrayLike],
        *,
        samples: int = 1,
        every: int = 1,
        chunk_frames: int | None = None,
        batch: int = 16,
        on_chunk: Callable[[list[Imagined]], None] | None = None,
        members: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        if not paths:
            raise ValueError("there are no candidate paths; at least one is needed")
        if samples < 1 or every < 0 or batch < 1:
            raise ValueError(
                f"samples is {samples}, every {every}, batch {batch}; accepted: 1 or more, 0 or "
                "more, 1 or more"
            )
        longest = chunk_frames or world.max_chunk_frames
        checked = [check_poses(path, f"path {i}") for i, path in enumerate(paths)]
        if members is None:
            members = all_members(len(checked), samples)
        self.state = state
        self.batch = batch
        self.widest = 0  # candidates in the largest batch so far
        self.frames_done = 0
        self.frames_total = sum(len(checked[candidate]) for candidate, _ in members)
        self.seconds = {"context": 0.0, "sampling": 0.0, "decoding": 0.0}
        self._world = world
        self._on_chunk = on_chunk
        self._tasks = [
            _Task(
                candidate=candidate,
                sample=sample,
                state=dataclasses.replace(state, seed=derived_seed(state.seed, sample)),
                poses=checked[candidate],
                lengths=chunk_lengths(len(checked[candidate]), longest),
                wanted=wanted_frames(len(checked[candidate]), every),
            )
            for candidate, sample in members
        ]

    def results(self) -> list[Imagined]:
        """Return all futures once the slices are done, samples of a candidate side by side."""
        ordered = sorted(self._tasks, key=lambda task: (task.candidate, task.sample))
        return [task.result() for task in ordered]

    @torch.inference_mode()
    def slices(self) -> Iterator[str]:
        """Do the work slice by slice; yields what each was: context, sampling or decoding."""
        waiting = deque(self._tasks)
        while waiting:
            batch = self._take(waiting)
            try:
                yield from self._chunk(batch)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self.batch = len(batch) // 2
                logger.warning(
                    "no memory for %d candidates at once on %s; going on with %d",
                    len(batch), self._world.device, self.batch,
                )  # fmt: skip
                waiting.extendleft(reversed(batch))
                if self._world.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            waiting.extendleft(task for task in reversed(batch) if task.done < len(task.poses))

    def _take(self, waiting: deque[_Task]) -> list[_Task]:
        """Take the next candidate and those whose next chunk has the same shapes, up to a batch."""
        shape = self._shape(waiting[0])
        alike = (task for task in waiting if self._shape(task) == shape)
        batch = list(itertools.islice(alike, self.batch))
        for task in batch:
            waiting.remove(task)
        return batch

    def _shape(self, task: _Task) -> tuple[int, ...]:
        """Return the frames of the next chunk, of its context, and what else must be equal."""
        config = self._world.config
        context = min(len(task.state.memory), config.context_latents)
        # In this form the context's times, which differ, are read at every sampling step.
        form = (config.transformer.memory_source, config.transformer.time_positions)
        alone = task.candidate if form == ("all", "time") else -1
        return len(task.next_poses), context, alone

    def _chunk(self, batch: list[_Task]) -> Iterator[str]:
        world = self._world
        self.widest = max(self.widest, len(batch))
        targets = [world.targets(task.state, task.next_poses) for task in batch]
        prepared, place = [], [0] * len(batch)
        rows = 0
        for context, members in self._contexts(batch, targets):
            # Samples of one candidate are conditioned alike.
            unique = list({batch[i].candidate: i for i in members}.values())
            with self._timed("context"):
                state = batch[members[0]].state
                prepared.append(world.condition(state, context, *[targets[i] for i in unique]))
            row = {batch[i].candidate: rows + r for r, i in enumerate(unique)}
            for i in members:
                place[i] = row[batch[i].candidate]
            rows += len(unique)
            yield "context"
        with self._timed("context"):
            conditioning = _joined([pair[0] for pair in prepared], place)
            negatives = [pair[1] for pair in prepared if pair[1] is not None]
            negative = _joined(negatives, place) if negatives else None
            noise = torch.cat([self._noise(*pair) for pair in zip(batch, targets, strict=True)])
        steps = integrate(world.transformer, noise, conditioning, world.sampler, negative=negative)
        latents = noise
        for _ in range(world.sampler.steps):
            with self._timed("sampling"):
                latents = next(steps)
            yield "sampling"
        check_finite(latents)
        decoded: list[list[Frames]] = [[] for _ in batch]
        # On a CPU a batch only falls out of the caches; a GPU decodes it at once.
        together = len(batch) if world.device.type == "cuda" else 1
        for first in range(0, len(batch), together):
            stream = world.decoder.decode_stream(latents[first : first + together])
            while True:
                with self._timed("decoding"):
                    video = next(stream, None)
                    if video is None:
                        break
                    for i, own in enumerate(video):
                        decoded[first + i].append(video_to_frames(own))
                yield "decoding"
        self._finish(batch, targets, latents, [np.concatenate(pieces) for pieces in decoded])

    def _contexts(
        self, batch: list[_Task], targets: list[Targets]
    ) -> list[tuple[Context, list[int]]]:
        """Return each context, once, with the places in the batch of those that remember it."""
        found: dict[tuple[int, bytes], tuple[Context, list[int]]] = {}
        with self._timed("context"):
            for i, (task, target) in enumerate(zip(batch, targets, strict=True)):
                selection, context = self._world.select(task.state, target)
                key = (id(task.state.memory), selection.indices.tobytes())
                found.setdefault(key, (context, []))[1].append(i)
        return list(found.values())

    def _noise(self, task: _Task, targets: Targets) -> Tensor:
        state, count = task.state, len(targets.latent_times)
        return chunk_noise(self._world.config, state.seed, state.chunks, count, self._world.device)

    def _finish(
        self, batch: list[_Task], targets: list[Targets], latents: Tensor, decoded: list[Frames]
    ) -> None:
        news = []
        for task, target, own, frames in zip(batch, targets, latents, decoded, strict=True):
            # A copy: a part of the batch would keep all of it in memory.
            segment = self._world.segment(own.clone(), target, frames, "imagined")
            state = task.state.followed_by(segment, target.poses[-1], float(target.times[-1]))
            now = task.wanted[(task.wanted >= task.done) & (task.wanted < task.done + len(frames))]
            news.append(
                Imagined(
                    candidate=task.candidate, sample=task.sample, seed=state.seed,
                    indices=now, poses=task.poses[now], frames=frames[now - task.done],
                    states=(state,), ends=(task.done + len(frames),),
                )
            )  # fmt: skip
            task.parts.append(news[-1])
            task.state = state
            task.done += len(frames)
            self.frames_done += len(frames)
        if self._on_chunk is not None:
            self._on_chunk(news)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if self._world.device.type == "cuda":
                torch.cuda.synchronize(self._world.device)
            self.seconds[part] += time.perf_counter() - start


def imagine(
    world: World,
    state: State,
    paths: Sequence[npt.ArrayLike],
    *,
    cancelled: Callable[[], bool] | None = None,
    **options: Any,
) -> list[Imagined]:
    """Return the futures of ``state`` along ``paths``; ``options`` are ``Imagination``'s.

    ``cancelled()`` is asked after every slice of work; when it says yes, ``Cancelled`` is raised.
    """
    work = Imagination(world, state, paths, **options)
    for _ in work.slices():
        if cancelled is not None and cancelled():
            raise Cancelled("imagination was given up")
    return work.results()


@torch.inference_mode()
def last_frames(world: World, state: State) -> Frames:
    """Return the frames uint8 ``[T, H, W, 3]`` of the last clip that a state remembers, decoded."""
    latents = state.memory.segments[-1].latents.read()[None].to(world.device)
    stream = world.decoder.decode_stream(latents)
    return np.concatenate([video_to_frames(video) for video in stream])


def derived_seed(seed: int, sample: int) -> int:
    """Return the seed of a sample: 0 has the state's own, the others have one made from it."""
    if sample == 0:
        return seed
    words = np.random.SeedSequence([seed & (2**64 - 1), sample]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))  # fits wherever a seed may be entered


def all_members(paths: int, samples: int) -> list[tuple[int, int]]:
    """Return every pair (path, sample) in the order in which they are imagined."""
    return [(path, sample) for sample in range(samples) for path in range(paths)]


def wanted_frames(count: int, every: int) -> npt.NDArray[np.int64]:
    """Return the numbers of wanted frames: all (1), n-1, 2n-1, ... and the last, the last (0)."""
    if every == 0:
        return np.array([count - 1])
    return np.unique(np.append(np.arange(every - 1, count, every), count - 1))


def _joined(parts: list[Conditioning], rows: Sequence[int]) -> Conditioning:
    """Join conditionings of equal shapes along the batch, and take its ``rows``."""
    if len(parts) == 1 and list(rows) == list(range(len(parts[0].target_camera))):
        return parts[0]

    def join(tensors: list[Tensor]) -> Tensor:
        return torch.cat(tensors)[list(rows)]

    def optional(tensors: list[Tensor | None]) -> Tensor | None:
        present = [tensor for tensor in tensors if tensor is not None]
        return join(present) if present else None

    def rotations(given: list[Rotation | None]) -> Rotation | None:
        present = [by for by in given if by is not None]
        if not present or not present[0].per_sample:
            return given[0]
        return Rotation(
            cosine=join([by.cosine for by in present]),
            sine=join([by.sine for by in present]),
            value=rotations([by.value for by in present]),
            rays=present[0].rays,
        )

    def memories(
        given: Sequence[Conditioning] | Sequence[DetailConditioning],
    ) -> tuple[Memory, ...]:
        return tuple(
            Memory(
                key=join([memory.key for memory in block]),
                value=join([memory.value for memory in block]),
                relevance_key=join([memory.relevance_key for memory in block]),
            )
            for block in zip(*(part.memories for part in given), strict=True)
        )

    def details() -> DetailConditioning | None:
        present = [part.detail for part in parts if part.detail is not None]
        if not present:
            return None
        by = rotations([part.target_by for part in present])
        assert by is not None
        return DetailConditioning(
            join([part.target_camera for part in present]), memories(present), by,
            optional([part.moves for part in present]),
        )  # fmt: skip

    return dataclasses.replace(
        parts[0],
        context_camera=join([part.context_camera for part in parts]),
        target_camera=join([part.target_camera for part in parts]),
        text=optional([part.text for part in parts]),
        context_latents=optional([part.context_latents for part in parts]),
        target_by=rotations([part.target_by for part in parts]),
        memories=memories(parts),
        detail=details(),
        moves=optional([part.moves for part in parts]),
    )
