# SPDX-License-Identifier: Apache-2.0
"""How far motion can be predicted from positions alone: the rates that a model is held against."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.evaluation.events import Event
from hydra_model.evaluation.subjects import HIT_SHARE
from hydra_model.procedural.scenes import Scenes

SEEN_POSITIONS = 15  # of the context, the last ones, that the line is fitted to


@dataclass(frozen=True)
class Camera:
    """Image size in pixels and horizontal field of view in radians."""

    height: int
    width: int
    fov_x: float

    @property
    def focal(self) -> float:
        return self.width / 2 / math.tan(self.fov_x / 2)


def linear_extrapolation(seen_times: Tensor, seen_positions: Tensor, times: Tensor) -> Tensor:
    """Fit a line to positions [N, 2] at times [N] and continue it to times [T]: [T, 2].

    Least squares; a single position stays where it is.
    """
    mean_time, mean_position = seen_times.mean(), seen_positions.mean(0)
    elapsed = seen_times - mean_time
    spread = elapsed.square().sum()
    slope = (elapsed[:, None] * (seen_positions - mean_position)).sum(0) / spread.clamp(min=1e-12)
    return mean_position + slope * (times - mean_time)[:, None]


def visible_centre(
    position: Tensor, size: Tensor, camera_to_world: Tensor, camera: Camera
) -> Tensor:
    """Return the middle of what the image shows of an upright subject's box, pixels [T, 2].

    ``position`` [T, 2] on the ground, ``size`` [2] height and radius in metres, ``camera_to_world``
    [T, 4, 4] optical. The box is cut at the image's edges; NaN where none of it is inside.
    """
    ends = torch.stack([torch.zeros_like(size[0]), size[0]])  # feet, top
    points = torch.cat(
        [position[:, None].expand(-1, 2, 2), ends[None, :, None].expand(len(position), 2, 1)], -1
    )
    rotation, origin = camera_to_world[:, :3, :3], camera_to_world[:, None, :3, 3]
    local = (points - origin) @ rotation  # [T, 2, 3]
    depth = local[..., 2].clamp(min=0.05)
    x = camera.focal * local[..., 0] / depth + camera.width / 2
    y = camera.focal * local[..., 1] / depth + camera.height / 2
    reach = camera.focal * size[1] / depth.mean(1)
    left = (x.mean(1) - reach).clamp(0, camera.width)
    right = (x.mean(1) + reach).clamp(0, camera.width)
    top = y.amin(1).clamp(0, camera.height)
    bottom = y.amax(1).clamp(0, camera.height)
    shown = (local[..., 2].amin(1) > 0.05) & (right > left) & (bottom > top)
    centre = torch.stack([(left + right) / 2, (top + bottom) / 2], -1)
    return torch.where(shown[:, None], centre, torch.nan)


def extrapolated_hits(
    event: Event,
    scenes: Scenes,
    camera_to_world: Tensor,
    times: Tensor,
    visible: Tensor,
    context_frames: int,
    camera: Camera,
) -> list[bool]:
    """Say for each frame of an event whether a straight continuation hits the true place.

    ``camera_to_world`` [B, T, 4, 4] and ``times`` [T] are of context and target in one row,
    ``visible`` bool [B, S, T]. The line is fitted to the true positions at the last
    ``SEEN_POSITIONS`` context frames that show the subject: what the model has been shown.
    """
    world, subject = event.world, event.subject
    seen = visible[world, subject, :context_frames].nonzero()[:, 0][-SEEN_POSITIONS:]
    frames = torch.tensor(event.frames, device=times.device) + context_frames
    path = scenes.motion[world : world + 1].position(times)[0, :, subject]
    guess = linear_extrapolation(times[seen], path[seen], times[frames])
    height, radius = scenes.subject_size[world, subject]
    # A box is longer than wide.
    size = torch.stack([height, radius.maximum(scenes.subject_shape[world, subject, -1])])
    poses = camera_to_world[world, frames]
    true_centre = visible_centre(path[frames], size, poses, camera)
    guessed_centre = visible_centre(guess, size, poses, camera)
    distance = (guessed_centre - true_centre).norm(dim=-1)
    return (distance <= HIT_SHARE * camera.width).tolist()  # NaN is no hit
