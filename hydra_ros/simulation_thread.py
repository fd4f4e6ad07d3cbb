# SPDX-License-Identifier: Apache-2.0
"""The one thread that owns the model: requests in, frames out.

Nothing else touches the ``World``. Requests are served in order and answered through
``concurrent.futures.Future``; frames leave through a callback as they are decoded, on this
thread. ``cancel`` abandons the steps that run or wait, between two sampling steps or frames;
an abandoned or failed step leaves no trace in the world's memory.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Cancelled(Exception):
    """A request that was abandoned before it was complete."""


@dataclass(frozen=True, kw_only=True)
class WorldFacts:
    """What the rest of the node may know of the world, as of one moment.

    ``pose`` [4, 4] is the optical frame of the last committed frame, ``time`` its simulated
    time in seconds, ``state`` the world's immutable snapshot; None and 0 before the first start.
    ``usage`` says the bytes of memory by place, those of kept snapshots included.
    """

    name: str
    device: str
    height: int
    width: int
    fps: float
    fov_x: float
    context_frames: int
    max_chunk_frames: int
    world_style: str
    pose: np.ndarray | None
    time: float
    memory_size: int
    memory_bytes: int
    usage: Any
    state: Any


@dataclass(frozen=True, kw_only=True)
class FrameBatch:
    """Decoded frames of one step: uint8 [N, H, W, 3], poses [N, 4, 4], simulated times [N] s.

    ``run`` counts the worlds that were started, so that late frames of a world that was
    replaced are told apart. ``commanded`` is the steady time of the newest command that shaped
    them, with a step's first frame only.
    """

    run: int
    frames: np.ndarray
    poses: np.ndarray
    times: np.ndarray
    commanded: float | None


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """A committed step: the world after it, seconds it took, and seconds to its first frame."""

    facts: WorldFacts
    frames: int
    seconds: float
    first_frame_seconds: float


class Start(Protocol):
    """What a world starts from: a context clip, a saved state or an imagined future."""

    continues: bool  # whether the world that runs goes on: no beginning of another
    description: str

    def begin(self, world: Any) -> None:
        """Make it the live world, or raise and change nothing."""


class Watch(Protocol):
    """Looks at what a step does with the memory (see ``memory_publisher.ChunkWatch``)."""

    retrieval: bool  # whether ``retrieved`` is wanted, which costs a little

    def context_chosen(self, state: Any, selection: Any, *, period: float, aspect: float) -> None:
        """The chunk's context was selected of the state's memory; ``period`` of frames in s."""

    def retrieved(self, shares: np.ndarray, *, latent_period: float) -> None:
        """The chunk was sampled; ``shares`` [target, context] say what attended to what."""


class SimulationThread:
    """Runs a world on a thread of its own.

    Args:
        load: builds the world, on this thread; gets a function that raises ``Cancelled`` when
            the thread is asked to stop, to be called now and then.
        on_frames: gets every ``FrameBatch``, on this thread, and must not block.
    """

    def __init__(
        self, load: Callable[[Callable[..., None]], Any], on_frames: Callable[[FrameBatch], None]
    ) -> None:
        self._on_frames = on_frames
        self._requests: queue.SimpleQueue[tuple[Future, Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._generation = 0  # of steps: raised by cancel()
        self._unseen_generation = 0  # raised by cancel_unseen()
        self._stopping = False
        self._world: Any = None
        self._device = ""
        self._committed: WorldFacts | None = None
        self._thread = threading.Thread(target=self._serve, name="simulation")
        self._thread.start()
        self.loaded: Future[WorldFacts] = self._submit(lambda: self._load(load))

    @property
    def committed(self) -> WorldFacts | None:
        """The world after the last thing that was committed; None before it is loaded.

        It holds whatever ends with a frame that was handed out, though the step's future may
        not be done yet.
        """
        return self._committed

    @property
    def world(self) -> Any:
        """The world itself, for what any thread may do with it: write and read states."""
        return self._world

    @property
    def wanted(self) -> bool:
        """Whether a request waits behind the one that runs; may be asked on any thread."""
        return not self._requests.empty()

    def reset(self, start: Start) -> Future[WorldFacts]:
        """Start a world, abandoning the steps of the former one."""
        self.cancel()
        return self._submit(lambda: self._reset(start))

    def step(
        self,
        poses: np.ndarray,
        *,
        run: int = 0,
        commanded: float | None = None,
        watch: Watch | None = None,
    ) -> Future[StepResult]:
        """Simulate the frames at the optical poses [T, 4, 4], T = 1 + 4 k.

        ``watch`` is called on this thread while they are.

        The future fails with ``Cancelled``, or with what the world raised.
        """
        generations = (self._generation, self._unseen_generation)
        return self._submit(lambda: self._step(poses, run, commanded, generations, watch))

    def observe(
        self, frames: np.ndarray, poses: np.ndarray, gaps: np.ndarray
    ) -> Future[WorldFacts]:
        """Take real frames into memory; ``gaps`` [T] are the seconds before each of them."""

        def observe() -> WorldFacts:
            times = self._world.time + np.cumsum(gaps)
            self._world.observe(frames, poses, times=times)
            return self._facts()

        return self._submit(observe)

    def call(self, work: Callable[[Any], Any]) -> Future:
        """Run ``work(world)`` in turn; the future gets its result or what it raised."""
        return self._submit(lambda: work(self._world))

    def cancel(self) -> None:
        """Abandon the steps that run or wait."""
        self._generation += 1

    def cancel_unseen(self) -> None:
        """Abandon the steps that run or wait, except one that has handed out frames already."""
        self._unseen_generation += 1

    def close(self) -> None:
        """Abandon everything, free the world and end the thread."""
        self._stopping = True
        self.cancel()
        self._requests.put(None)
        self._thread.join()

    def _submit(self, work: Callable[[], Any]) -> Future:
        future: Future = Future()
        self._requests.put((future, work))
        return future

    def _serve(self) -> None:
        while (request := self._requests.get()) is not None:
            future, work = request
            if self._stopping:
                future.set_exception(Cancelled("the simulator stops"))
                continue
            try:
                result = work()
            except BaseException as error:  # belongs to whoever asked
                # Without the frames of the call, which hold its tensors.
                future.set_exception(error.with_traceback(None))
            else:
                future.set_result(result)
        self._world = self._committed = None
        _free_device_memory(self._device)

    def _load(self, load: Callable[[Callable[..., None]], Any]) -> WorldFacts:
        def check(*_: object) -> None:
            if self._stopping:
                raise Cancelled("the simulator stops")

        self._world = load(check)
        self._device = str(getattr(self._world, "device", ""))
        return self._facts()

    def _reset(self, start: Start) -> WorldFacts:
        start.begin(self._world)
        return self._facts()

    def _step(
        self,
        poses: np.ndarray,
        run: int,
        commanded: float | None,
        generations: tuple[int, int],
        watch: Watch | None,
    ) -> StepResult:
        first_frame_at = 0.0

        def cancelled() -> bool:
            if self._generation != generations[0]:
                return True
            return not first_frame_at and self._unseen_generation != generations[1]

        def on_frames(first: int, frames: np.ndarray) -> None:
            if cancelled():
                raise Cancelled("the step was abandoned")
            nonlocal first_frame_at, last
            first_frame_at = first_frame_at or time.monotonic()
            indices = np.arange(first, first + len(frames))
            batch = FrameBatch(
                run=run,
                frames=frames,
                poses=poses[indices],
                times=start + (indices + 1) / fps,
                commanded=commanded if first == 0 else None,
            )
            if indices[-1] + 1 < len(poses):
                self._on_frames(batch)
            else:
                last = batch

        if cancelled():
            raise Cancelled("the step was abandoned")
        fps, start = self._world.config.video.fps, self._world.time
        started = time.monotonic()
        last: FrameBatch | None = None
        try:
            watching = _watching(self._world, watch) if watch else {}
            self._world.step(poses, on_frames=on_frames, cancelled=cancelled, **watching)
        except Exception as error:
            if cancelled():
                raise Cancelled("the step was abandoned") from error
            raise
        ended = time.monotonic()
        facts = self._facts()
        if last:  # only now: who has seen a chunk's last frame can count on the chunk
            self._on_frames(last)
        return StepResult(
            facts=facts,
            frames=len(poses),
            seconds=ended - started,
            first_frame_seconds=(first_frame_at or ended) - started,
        )

    def _facts(self) -> WorldFacts:
        world, config = self._world, self._world.config
        state = world.state() if world.ready else None
        self._committed = WorldFacts(
            name=config.name,
            device=self._device,
            height=config.video.height,
            width=config.video.width,
            fps=config.video.fps,
            fov_x=state.fov_x if state else config.video.fov_x,
            context_frames=config.context_frames,
            max_chunk_frames=world.max_chunk_frames,
            world_style=config.world_style,
            pose=world.pose if state else None,
            time=world.time if state else 0.0,
            memory_size=world.memory_size if state else 0,
            memory_bytes=world.memory_bytes if state else 0,
            usage=world.memory_usage,
            state=state,
        )
        return self._committed


def _watching(world: Any, watch: Watch) -> dict[str, Any]:
    """Return the arguments of ``World.step`` that let ``watch`` see what it does."""
    state, video = world.state(), world.config.video
    period = 1.0 / video.fps
    latent_period = period * world.config.autoencoder.temporal_stride
    aspect = video.width / video.height
    watching: dict[str, Any] = {
        "on_context": lambda selection, memory: watch.context_chosen(
            state, selection, period=period, aspect=aspect
        )
    }
    if watch.retrieval:
        watching["on_retrieval"] = lambda shares: watch.retrieved(
            shares, latent_period=latent_period
        )
    return watching


def _free_device_memory(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()
