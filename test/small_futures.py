# SPDX-License-Identifier: Apache-2.0
"""A small world with random weights, paths out of it, and workers of it without Ray."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from hydra_model.imagination import Imagined
from hydra_model.workers.batches import Batch
from hydra_model.workers.crew import WorkerLost
from hydra_model.workers.worker import Recipe, Worker
from hydra_model.world import World


def recipe(folder: Path) -> Recipe:
    return Recipe(model=folder, device="cpu", options={"dtype": "float32"})


def begun(world: World) -> World:
    """Start the world from 17 frames of coloured squares."""
    coarse = np.random.default_rng(0).integers(0, 256, (17, 6, 10, 3), dtype=np.uint8)
    world.reset(coarse.repeat(8, 1).repeat(8, 2), path(17), seed=3)
    return world


def path(count: int, turn: float = 0.02) -> np.ndarray:
    """Optical poses that go ahead and turn by so many radians a frame."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i, pose in enumerate(poses):
        cos, sin = np.cos(turn * i), np.sin(turn * i)
        pose[:3, :3] = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
        pose[2, 3] = 0.05 * i
    return poses


def fan(candidates: int, count: int) -> list[np.ndarray]:
    return [path(count, turn) for turn in np.linspace(-0.05, 0.05, candidates)]


def same(a: list[Imagined], b: list[Imagined]) -> bool:
    """Whether futures have the same frames, seeds and order, to the last bit."""
    return [(f.candidate, f.sample, f.seed, f.ends) for f in a] == [
        (f.candidate, f.sample, f.seed, f.ends) for f in b
    ] and all(
        np.array_equal(x.frames, y.frames) and np.array_equal(x.indices, y.indices)
        for x, y in zip(a, b, strict=True)
    )


class LocalHand:
    """A worker in this process. ``trouble(batch, chunks)`` is called before every answer."""

    def __init__(self, world: World, trouble: Callable[[Batch, int], None] | None = None) -> None:
        self.worker = Worker(world)
        self.sent: list[str] = []  # hashes, as they came
        self.imagined: list[Batch] = []
        self.given_up = 0
        self.dismissed = threading.Event()
        self._trouble = trouble or (lambda batch, chunks: None)

    def begin(self) -> None: ...

    def missing(self, state):
        return self.worker.missing(state)

    def accept(self, state, contents) -> None:
        self.sent.extend(contents)
        self.worker.accept(state, contents)

    def imagine(self, batch: Batch) -> Iterator:
        self.imagined.append(batch)
        try:
            for chunks, news in enumerate(self.worker.imagine(batch)):
                if self.dismissed.is_set():
                    raise WorkerLost("it was dismissed")
                self._trouble(batch, chunks)
                yield news
        except Exception:
            self.given_up += 1
            raise

    def cancel(self, number: int) -> None:
        self.worker.cancel(number)

    def dismiss(self) -> None:
        self.dismissed.set()
