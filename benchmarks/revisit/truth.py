# SPDX-License-Identifier: Apache-2.0
"""What is true of an episode: its pictures, what comes back into view, who was seen when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.revisit.episodes import Episode
from hydra_model.config import ModelConfig
from hydra_model.evaluation.reference_motion import Camera
from hydra_model.evaluation.revisits import back_after_absence, sampled_pixels, visibility
from hydra_model.evaluation.subjects import subject_truth
from hydra_model.evaluation.worlds import WorldBatch
from hydra_model.procedural.cores import Core
from hydra_model.procedural.motion import MAX_SUBJECTS
from hydra_model.procedural.renderer import render

Mask = npt.NDArray[np.bool_]
Pictures = npt.NDArray[np.uint8]
LAST_SIGHT = 1.0  # seconds before a subject was lost: frames that tell of its motion


@dataclass(frozen=True)
class Sights:
    """What each of N remembered latent frames shows of what the target will show again.

    ``background`` bool [N, Q] are the sampled pixels of the target whose place comes back into
    view, and the frames that show that place. ``subjects`` bool [E, N] are the re-entries, and
    the frames of the last second before the subject was lost.
    """

    background: Mask
    subjects: Mask

    def coverage(self, indices: npt.NDArray[np.int64]) -> tuple[float | None, float | None]:
        """Return the shares of places and of subjects that the chosen frames show.

        None where the episode has nothing of the kind. No weights can do better than this.
        """
        places, subjects = self.background[indices], self.subjects[:, indices]
        return (
            float(places.any(0).mean()) if places.shape[1] else None,
            float(subjects.any(1).mean()) if len(subjects) else None,
        )


@dataclass(frozen=True)
class Truth:
    """All video frames uint8 [T, H, W, 3]; what is true of the latent frames, and who sees it.

    ``batch`` holds only the latent frames of history and target, at their rate: so measures
    look at every fourth frame of a prediction.
    """

    frames: Pictures
    batch: WorldBatch
    sights: Sights


def latent_frames(episode: Episode, stride: int) -> npt.NDArray[np.int64]:
    """Return the video frames that the latent frames of history and target stand for."""
    target = len(episode.times) - episode.history
    starts = np.concatenate([[0], np.cumsum(episode.clips)])
    parts = zip(starts, (*episode.clips, target), strict=True)
    return np.concatenate([np.arange(start, start + count, stride) for start, count in parts])


def render_truth(
    episode: Episode,
    config: ModelConfig,
    *,
    size: tuple[int, int] | None = None,
    every_frame: bool = True,
    supersample: int = 2,
    device: str = "cpu",
    core: Core | None = None,
) -> Truth:
    """Render an episode and find out all that is true of it.

    ``size`` (height, width) is the model's by default. Without ``every_frame`` only the latent
    frames are rendered, which is enough for what needs no predictions.
    """
    stride, fov_x = config.autoencoder.temporal_stride, config.video.fov_x
    height, width = size or (config.video.height, config.video.width)
    latents = latent_frames(episode, stride)
    shown = np.arange(len(episode.times)) if every_frame else latents
    poses = torch.from_numpy(episode.poses[shown]).to(device)
    times = torch.from_numpy(episode.times[shown]).to(device)
    scenes = episode.worlds.scenes.to(device)
    frames, ids, depth = (
        part[0]
        for part in render(
            scenes, poses[None], times, height, width, fov_x,
            supersample=supersample, with_depth=True, core=core,
        )
    )  # fmt: skip
    own = torch.from_numpy(np.searchsorted(shown, latents)).to(device)
    history = int((episode.times[latents] <= 1e-9).sum())
    rate = config.video.fps / stride
    subjects = subject_truth(
        frames[None, own], ids[None, own], context_frames=history, subjects=MAX_SUBJECTS, fps=rate
    )
    back, seen = _revisits(poses[own], times[own], depth[own], ids[own], history, fov_x)
    mask = torch.zeros(len(own) - history, height, width, dtype=torch.bool, device=device)
    rows, columns = sampled_pixels(height, width, torch.device(device))
    mask[:, rows, columns] = back.reshape(-1, *rows.shape)
    batch = WorldBatch(
        seeds=(episode.seed,), families=episode.worlds.trajectories.family, scenes=scenes,
        camera=Camera(height, width, fov_x), fps=rate, context=history, times=times[own],
        poses=poses[None, own], frames=frames[None, own], ids=ids[None, own],
        revisit_frames=torch.arange(len(own) - history, device=device), revisit_mask=mask[None],
        subjects=subjects,
    )  # fmt: skip
    lost = [
        _last_sight(subjects.visible[0, event.subject, :history], episode.times[latents])
        for event in subjects.events
    ]
    sights = Sights(
        background=seen[:history][:, back].cpu().numpy(),
        subjects=np.array(lost, dtype=np.bool_).reshape(-1, history),
    )
    return Truth(frames.cpu().numpy(), batch, sights)


def _revisits(
    poses: Tensor, times: Tensor, depth: Tensor, ids: Tensor, history: int, fov_x: float
) -> tuple[Tensor, Tensor]:
    """Return the sampled pixels that come back, bool [F, P], and who saw them, [M, F, P]."""
    targets = len(times) - history
    seen = visibility(poses, depth, ids == 0, targets=targets, fov_x=fov_x)
    back = back_after_absence(seen, times, history)
    rows, columns = sampled_pixels(*depth.shape[1:], depth.device)
    back &= (ids[history:] == 0)[:, rows, columns].reshape(targets, -1)
    return back, seen


def _last_sight(visible: Mask, times: npt.NDArray[np.float64]) -> Mask:
    """Return the frames of the last second in which a subject was in sight, bool [N]."""
    stamps = times[: len(visible)]
    return visible & (stamps >= stamps[visible].max() - LAST_SIGHT)
