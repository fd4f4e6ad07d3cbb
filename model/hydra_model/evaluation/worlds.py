# SPDX-License-Identifier: Apache-2.0
"""Held-out procedural worlds with everything that is true of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.config import ModelConfig
from hydra_model.evaluation.reference_motion import Camera
from hydra_model.evaluation.revisits import revisited
from hydra_model.evaluation.subjects import SubjectTruth, subject_truth
from hydra_model.procedural.cores import Core
from hydra_model.procedural.episodes import sample_worlds
from hydra_model.procedural.motion import MAX_SUBJECTS
from hydra_model.procedural.renderer import render
from hydra_model.procedural.scenes import Scenes

# Worlds of seeds from here on are never trained on; training draws its seeds below.
EVALUATION_SEEDS_START = 1_000_000_000
_RENDERED_AT_ONCE = 8  # worlds; many frames at once take about a gigabyte each for a while


@dataclass(frozen=True)
class WorldBatch:
    """B worlds with context and target in one row: T = context + target frames.

    Frames uint8 [B, T, H, W, 3], subject ids uint8 [B, T, H, W], optical camera-to-world poses
    float64 [B, T, 4, 4], times float64 [T] in seconds (the last context frame is at 0),
    ``families`` int64 [B]. ``revisit_frames`` [F] are target frames, ``revisit_mask`` bool
    [B, F, H, W]; see ``revisits``.
    """

    seeds: tuple[int, ...]
    families: Tensor
    scenes: Scenes
    camera: Camera
    fps: float
    context: int
    times: Tensor
    poses: Tensor
    frames: Tensor
    ids: Tensor
    revisit_frames: Tensor
    revisit_mask: Tensor
    subjects: SubjectTruth

    @property
    def truth(self) -> Tensor:
        """The target frames, uint8 [B, Tt, H, W, 3]."""
        return self.frames[:, self.context :]

    @property
    def target_ids(self) -> Tensor:
        return self.ids[:, self.context :]


def make_batches(
    seeds: Sequence[int],
    config: ModelConfig,
    *,
    batch: int,
    device: torch.device | str,
    family: str | None = None,
    style: str | None = None,
    core: Core | None = None,
) -> Iterator[WorldBatch]:
    """Render worlds in batches; each has the camera family that training would give its seed.

    They are of the model's own style where ``style`` is None. ``core`` is how they are rendered,
    see ``procedural.renderer.render``.
    """
    for start in range(0, len(seeds), batch):
        yield _make_batch(list(seeds[start : start + batch]), config, device, family, style, core)


def _make_batch(
    seeds: list[int],
    config: ModelConfig,
    device: torch.device | str,
    family: str | None,
    style: str | None,
    core: Core | None,
) -> WorldBatch:
    video = config.video
    context, target = config.context_frames, config.chunk_frames
    # A compiled core wants one shape, so the last group is filled up with copies.
    group = min(_RENDERED_AT_ONCE, len(seeds))
    padded = seeds + [seeds[-1]] * (-len(seeds) % group)
    worlds = sample_worlds(padded, family=family, style=style or config.world_style, device=device)
    times = torch.arange(1 - context, target + 1, dtype=torch.float64, device=device) / video.fps
    poses = worlds.trajectories.poses(times)
    rendered = []
    for first in range(0, len(padded), group):
        own = slice(first, first + group)
        rendered.append(
            render(
                worlds.scenes[own], poses[own], times, video.height, video.width, video.fov_x,
                with_depth=True, core=core,
            )
        )  # fmt: skip
    frames, ids, depth = (torch.cat(parts) for parts in zip(*rendered, strict=True))
    count = len(seeds)
    frames, ids, depth, poses = frames[:count], ids[:count], depth[:count], poses[:count]
    revisit_frames, revisit_mask = revisited(
        poses, times, depth, ids, context_frames=context, fov_x=video.fov_x
    )
    return WorldBatch(
        seeds=tuple(seeds),
        families=worlds.trajectories.family[:count],
        scenes=worlds.scenes[:count],
        camera=Camera(video.height, video.width, video.fov_x),
        fps=video.fps,
        context=context,
        times=times,
        poses=poses,
        frames=frames,
        ids=ids,
        revisit_frames=revisit_frames,
        revisit_mask=revisit_mask,
        subjects=subject_truth(
            frames, ids, context_frames=context, subjects=MAX_SUBJECTS, fps=video.fps
        ),
    )
