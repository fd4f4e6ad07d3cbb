# SPDX-License-Identifier: Apache-2.0
"""Let each memory policy predict the target of an episode, and score what it predicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.revisit.episodes import Episode
from benchmarks.revisit.truth import Truth
from hydra_model.conditioning import chunk_targets, memory_request
from hydra_model.config import ModelConfig
from hydra_model.evaluation.procedural import NO_MEMORY_LATENTS
from hydra_model.evaluation.scores import world_records
from hydra_model.memory import Latents, MemoryBank, MemorySettings, Segment
from hydra_model.selection import POLICIES, Request, select
from hydra_model.state import State
from hydra_model.thumbnails import make_thumbnails
from hydra_model.world import World

NO_MEMORY = "no_memory"
CONTESTANTS = (NO_MEMORY, *POLICIES)
Record = dict[str, Any]
Pictures = npt.NDArray[np.uint8]


class Contest:
    """Worlds of the same weights that differ in their memory policy alone.

    Without memory a world sees its last 6 latent frames (1.5 s). With ``imagined`` only the
    first clip of an episode is observed and every policy imagines the rest by itself; otherwise
    the whole history was observed, and the target is the first thing that is imagined.
    """

    def __init__(self, world: World, policies: Iterable[str], *, imagined: bool = False) -> None:
        short = dataclasses.replace(world.config, context_latents=NO_MEMORY_LATENTS)
        self.imagined = imagined
        self.worlds: dict[str, World] = {}
        for name in policies:
            policy, config = (name, world.config) if name != NO_MEMORY else ("recent", short)
            self.worlds[name] = World(
                config, world.autoencoder, world.transformer, sampler=world.sampler,
                memory=MemorySettings(policy=policy),
            )  # fmt: skip

    def run(self, episode: Episode, truth: Truth) -> dict[str, tuple[Record, Pictures]]:
        """Return each policy's record and its predicted frames uint8 [T, H, W, 3]."""
        start: State | None = None
        results: dict[str, tuple[Record, Pictures]] = {}
        for name, world in self.worlds.items():
            if start is None or self.imagined:
                start = self._remember(world, episode, truth)
            world.restore(start)
            chosen: list[npt.NDArray[np.int64]] = []
            frames = world.step(
                episode.poses[episode.history :],
                on_context=lambda selection, _, chosen=chosen: chosen.append(selection.indices),
            ).frames
            stride = world.config.autoencoder.temporal_stride
            prediction = torch.from_numpy(frames[None, ::stride].copy())
            (record,) = world_records(prediction.to(truth.batch.frames.device), truth.batch)
            results[name] = (_about(record, episode, truth, name, chosen[0]), frames)
        return results

    def _remember(self, world: World, episode: Episode, truth: Truth) -> State:
        first = 0
        for length in episode.clips:
            frames = truth.frames[first : first + length]
            poses = episode.poses[first : first + length]
            if first == 0:
                world.reset(frames, poses, seed=episode.seed)
            elif self.imagined:
                world.step(poses)
            else:
                world.observe(frames, poses)
            first += length
        return world.state()


def coverage_records(
    config: ModelConfig, episode: Episode, truth: Truth, policies: Iterable[str]
) -> dict[str, Record]:
    """Return what the policies choose, without any model: records of coverage alone."""
    memory, request = memory_of(config, episode, truth), request_of(config, episode)
    records: dict[str, Record] = {}
    for name in policies:
        few = dataclasses.replace(request, count=NO_MEMORY_LATENTS)
        chosen = select("recent", memory, few) if name == NO_MEMORY else select(
            name, memory, request
        )  # fmt: skip
        records[name] = _about({}, episode, truth, name, chosen.indices)
    return records


def request_of(config: ModelConfig, episode: Episode) -> Request:
    """Return what the target needs memory for."""
    targets = chunk_targets(config, 0.0, episode.poses[episode.history :])
    return memory_request(config, targets, config.video.fov_x)


def memory_of(config: ModelConfig, episode: Episode, truth: Truth) -> MemoryBank:
    """Return a history with pictures and poses, and latents that hold nothing."""
    memory, first = MemoryBank(), 0
    batch = truth.batch
    for length in episode.clips:
        count = 1 + (length - 1) // config.autoencoder.temporal_stride
        own = slice(first, first + count)
        segment = Segment(
            Latents(torch.zeros(1, count, 1, 1)),
            batch.poses[0, own].cpu().numpy(),
            batch.times[own].cpu().numpy(),
            "observed",
            make_thumbnails(batch.frames[0, own].cpu().numpy()),
        )
        memory = memory.add(memory.watched(segment, config.video.fov_x))
        first += count
    return memory


def _about(
    record: Record, episode: Episode, truth: Truth, policy: str, chosen: npt.NDArray[np.int64]
) -> Record:
    places, subjects = truth.sights.coverage(chosen)
    return {
        **record,
        "family": episode.family,
        "gap": episode.gap,
        "seed": episode.seed,
        "policy": policy,
        "chosen": chosen.tolist(),
        "places_covered": places,
        "subjects_covered": subjects,
    }
