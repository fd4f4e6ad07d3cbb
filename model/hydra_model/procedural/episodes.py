# SPDX-License-Identifier: Apache-2.0
"""Worlds with a camera path, as training batches and as episodes with ground truth."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from hydra_model.procedural.cores import Core
from hydra_model.procedural.motion import PLAIN
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.renderer import render
from hydra_model.procedural.scenes import Scenes, sample_scenes
from hydra_model.procedural.tensors import TensorBatch
from hydra_model.procedural.trajectories import (
    Trajectories,
    choose_families,
    family_index,
    sample_trajectories,
)

FPS = 15.0
FOV_X = math.radians(70)
MINIMUM_PIXELS = 12  # a subject with fewer visible pixels counts as out of sight


@dataclass(frozen=True)
class Worlds(TensorBatch):
    """Scenes and the camera path through each of them."""

    scenes: Scenes
    trajectories: Trajectories


def sample_worlds(
    seeds: int | Iterable[int] | Tensor,
    *,
    family: str | None = None,
    style: str = PLAIN,
    device: torch.device | str = "cpu",
) -> Worlds:
    """Draw one world per seed, with the named camera family or one drawn for each world.

    ``style`` is "plain" or "rich", see ``scenes``; a seed is another world in each of them. Many
    small operations: draw many worlds at once and slice them into batches.
    """
    seeds = as_seeds(seeds, device)
    families = (
        choose_families(seeds) if family is None else torch.full_like(seeds, family_index(family))
    )
    scenes = sample_scenes(seeds, style)
    return Worlds(scenes, sample_trajectories(seeds, families, scenes.motion))


def render_worlds(
    worlds: Worlds,
    times: Tensor,
    *,
    height: int = 96,
    width: int = 160,
    fov_x: float = FOV_X,
    supersample: int = 2,
    renderer: Core | None = None,
    camera_times: Tensor | None = None,
    with_depth: bool = False,
) -> tuple[Tensor, ...]:
    """Render worlds along their own camera paths at times [T] or [B, T] (seconds).

    ``camera_times``, in the same shape, are where on its path the camera is at those times, when
    it does not keep to them. ``renderer`` is what ``choose_core`` returned, or None for what needs
    no preparation. Returns frames uint8 [B, T, H, W, 3], optical camera-to-world poses float32
    [B, T, 4, 4], subject ids uint8 [B, T, H, W] and, if asked for, the depth as ``render`` does.
    """
    poses = worlds.trajectories.poses(times if camera_times is None else camera_times)
    frames, *images = render(
        worlds.scenes, poses, times, height, width, fov_x,
        supersample=supersample, with_depth=with_depth, core=renderer,
    )  # fmt: skip
    return frames, poses.to(torch.float32), *images


def sample_training_batch(
    seeds: int | Iterable[int] | Tensor,
    segment_times: Tensor,
    height: int = 96,
    width: int = 160,
    fov_x: float = FOV_X,
    device: torch.device | str = "cpu",
    *,
    supersample: int = 2,
    style: str = PLAIN,
    renderer: Core | None = None,
) -> tuple[Tensor, ...]:
    """Draw worlds by their seeds and render them at times [T] or [B, T]; see ``render_worlds``.

    Times are seconds from the episode's last context frame, -72 to 12; they may have gaps.
    """
    worlds = sample_worlds(seeds, style=style, device=device)
    return render_worlds(
        worlds,
        segment_times.to(device),
        height=height,
        width=width,
        fov_x=fov_x,
        supersample=supersample,
        renderer=renderer,
    )


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A context that was seen and a target that comes true, in one world.

    Frames are uint8 [T, H, W, 3] RGB, poses optical camera-to-world float64 [T, 4, 4] in metres,
    masks uint8 [T, H, W] (0, or the number 1.. of the visible subject), times float64 [T]
    seconds; the last context frame is at time 0.
    """

    seed: int
    worlds: Worlds
    fps: float
    fov_x: float
    supersample: int
    context_frames: NDArray[np.uint8]
    context_poses: NDArray[np.float64]
    context_masks: NDArray[np.uint8]
    context_times: NDArray[np.float64]
    target_frames: NDArray[np.uint8]
    target_poses: NDArray[np.float64]
    target_masks: NDArray[np.uint8]
    target_times: NDArray[np.float64]

    def render(
        self, poses: ArrayLike, times: ArrayLike
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Show this world from any poses [T, 4, 4] at any times [T]: (frames, masks)."""
        camera = torch.as_tensor(np.asarray(poses, dtype=np.float64))
        seconds = torch.as_tensor(np.asarray(times, dtype=np.float64))
        if camera.ndim != 3 or seconds.ndim != 1:
            raise ValueError(
                f"poses are {list(camera.shape)} and times {list(seconds.shape)}; "
                "accepted are [T, 4, 4] and [T]"
            )
        height, width = self.context_frames.shape[1:3]
        return _render_one(
            self.worlds, camera, seconds, height, width, self.fov_x, self.supersample
        )

    def subject_positions(self, times: ArrayLike) -> NDArray[np.float64]:
        """Return the ground positions [T, S, 2] of the world's subjects, metres."""
        seconds = torch.as_tensor(np.asarray(times, dtype=np.float64))
        motion = self.worlds.scenes.motion
        return motion.position(seconds)[0, :, motion.active[0]].cpu().numpy()

    @property
    def motion_kinds(self) -> list[int]:
        """The kind of motion of each subject: an index into ``motion.MOTION_NAMES``."""
        motion = self.worlds.scenes.motion
        return motion.kind[0, motion.active[0]].tolist()


def _render_one(
    worlds: Worlds,
    poses: Tensor,
    times: Tensor,
    height: int,
    width: int,
    fov_x: float,
    supersample: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    device = worlds.scenes.sun_direction.device
    frames, masks = render(
        worlds.scenes, poses[None].to(device), times.to(device), height, width, fov_x,
        supersample=supersample,
    )  # fmt: skip
    return frames[0].cpu().numpy(), masks[0].cpu().numpy()


@torch.inference_mode()
def episode(
    seed: int,
    *,
    family: str | None = "look_away",
    style: str = PLAIN,
    context_frames: int = 77,
    target_frames: int = 77,
    height: int = 96,
    width: int = 160,
    fov_x: float = FOV_X,
    fps: float = FPS,
    supersample: int = 2,
    device: torch.device | str = "cpu",
) -> Episode:
    """Make the episode of a seed: context frames up to time 0, target frames after it.

    ``family`` is one of ``trajectories.FAMILIES``, or None to draw it from the seed; ``style`` is
    one of ``motion.STYLES``. ``fov_x`` is in radians. The world does not depend on the family, only
    the camera's path does.
    """
    if context_frames < 1 or target_frames < 0:
        raise ValueError(
            f"context_frames is {context_frames} and target_frames {target_frames}; "
            "accepted are at least 1 and at least 0"
        )
    worlds = sample_worlds(seed, family=family, style=style, device=device)
    context_times = torch.arange(1 - context_frames, 1, dtype=torch.float64) / fps
    target_times = torch.arange(1, target_frames + 1, dtype=torch.float64) / fps
    show = partial(
        _render_one, worlds, height=height, width=width, fov_x=fov_x, supersample=supersample
    )
    context_poses = worlds.trajectories.poses(context_times.to(device))[0].cpu()
    target_poses = worlds.trajectories.poses(target_times.to(device))[0].cpu()
    shown_context, context_masks = show(poses=context_poses, times=context_times)
    shown_target, target_masks = show(poses=target_poses, times=target_times)
    return Episode(
        seed=seed,
        worlds=worlds,
        fps=fps,
        fov_x=fov_x,
        supersample=supersample,
        context_frames=shown_context,
        context_poses=context_poses.numpy(),
        context_masks=context_masks,
        context_times=context_times.numpy(),
        target_frames=shown_target,
        target_poses=target_poses.numpy(),
        target_masks=target_masks,
        target_times=target_times.numpy(),
    )


class Reentry(NamedTuple):
    """Subject number 1.., target frame in which it is seen again, seconds out of sight before."""

    subject: int
    frame: int
    unseen: float


def reentry_events(
    shown: Episode, *, shortest: float = 1.0, minimum_pixels: int | None = None
) -> list[Reentry]:
    """Find subjects that were seen in the context, were out of sight and come back in the target.

    Out of sight means fewer than ``minimum_pixels`` visible pixels (the default grows with the
    image) for at least ``shortest`` seconds, whether outside the view or behind something.
    """
    masks = np.concatenate([shown.context_masks, shown.target_masks])
    if minimum_pixels is None:
        minimum_pixels = max(1, round(MINIMUM_PIXELS * masks.shape[1] * masks.shape[2] / 96 / 160))
    return [
        Reentry(subject, frame, unseen)
        for subject in range(1, int(masks.max(initial=0)) + 1)
        for frame, unseen in find_reentries(
            (masks == subject).sum((1, 2)) >= minimum_pixels,
            len(shown.context_masks),
            shown.fps,
            shortest,
        )
    ]


def find_reentries(
    visible: NDArray[np.bool_], context: int, fps: float, shortest: float = 1.0
) -> list[tuple[int, float]]:
    """Return (target frame, seconds unseen) of each re-entry in one subject's bool [T].

    The first ``context`` entries are the context; only what was seen there can come back.
    """
    seen = np.flatnonzero(visible)
    if len(seen) == 0 or seen[0] >= context:
        return []
    gaps = np.diff(seen) - 1
    return [
        (int(after - context), float(gap / fps))
        for after, gap in zip(seen[1:], gaps, strict=True)
        if gap >= shortest * fps and after >= context
    ]
