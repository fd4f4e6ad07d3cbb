# SPDX-License-Identifier: Apache-2.0
"""What the transformer is told of the cameras: a 12-vector a frame, or viewing rays a token.

Poses here are optical-frame camera-to-world matrices relative to the first target frame
(z forward, x right, y down), in metres.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hydra_model.config import Camera, ModelConfig

# Harmonics of a ray's azimuth and elevation: products of queries and keys made from them
# peak where two rays point the same way, down to about a token's width.
_HARMONICS = (1, 2, 4, 8)
_MATRIX_CHANNELS = 12
_PLACE_CHANNELS = 9  # direction, origin, moment
_RAY_CHANNELS = _PLACE_CHANNELS + 4 * len(_HARMONICS)
_CHANNELS = {
    "matrix": _MATRIX_CHANNELS,
    "rays": _RAY_CHANNELS,
    "sweep": _RAY_CHANNELS + _PLACE_CHANNELS,
}


def camera_channels(camera: Camera) -> int:
    """Return how many numbers describe the camera to each token."""
    return _CHANNELS[camera]


def camera_conditioning(
    camera: Camera,
    relative_poses: Tensor,
    previous: Tensor,
    *,
    grid: tuple[int, int],
    aspect: float,
    fov_x: float,
) -> Tensor:
    """Return ``[B, T, 1, 12]`` for "matrix", else ``[B, T, h * w, channels]``.

    ``relative_poses [B, T, 4, 4]`` float32 and ``previous``, those of the latent frames before
    (``previous_in_clip``), which "sweep" alone reads; ``grid`` is (h, w) in tokens; ``aspect``
    is image height over width; ``fov_x`` is the horizontal field of view in radians.
    """
    if camera == "matrix":
        return relative_poses[:, :, None, :3, :].flatten(-2)
    rays = ray_features(relative_poses, grid=grid, aspect=aspect, fov_x=fov_x)
    if camera == "rays":
        return rays
    # Behind the others: the weights of "rays" go on with zeros for these.
    before = ray_features(previous, grid=grid, aspect=aspect, fov_x=fov_x)
    return torch.cat((rays, before[..., :_PLACE_CHANNELS]), dim=-1)


class TokenCameras(NamedTuple):
    """Cameras of a transformer's tokens ``[B, T, 1 or N, channels]``, and of its detail's."""

    tokens: Tensor
    detail: Tensor | None


def token_cameras(
    config: ModelConfig, relative_poses: Tensor, previous: Tensor, *, fov_x: float
) -> TokenCameras:
    """Return what a model's transformer is told of the cameras, at each of its scales.

    Poses as for ``camera_conditioning``, on the device of the result.
    """
    height, width = config.video.height, config.video.width
    stride = config.autoencoder.spatial_stride
    own = config.transformer

    def cameras(rows: int, columns: int) -> Tensor:
        return camera_conditioning(
            own.camera, relative_poses, previous,
            grid=(height // stride // rows, width // stride // columns),
            aspect=height / width, fov_x=fov_x,
        )  # fmt: skip

    detail = None if own.detail is None else cameras(1, 1)
    return TokenCameras(cameras(*own.patch_size[1:]), detail)


def previous_in_clip(poses: Tensor) -> Tensor:
    """Return the poses of the latent frames before, for one clip ``[..., T, 4, 4]``.

    The first latent frame of a clip stands for one video frame, so it has its own.
    """
    return torch.cat((poses[..., :1, :, :], poses[..., :-1, :, :]), dim=-3)


def central_rays(
    grid: tuple[int, int], *, aspect: float, fov_x: float, device: torch.device
) -> Tensor:
    """Return the rays through the centres of a grid's cells, ``[h * w, 3]`` with z 1."""
    rows, columns = grid
    half = math.tan(fov_x / 2)
    x = ((torch.arange(columns, device=device) + 0.5) / columns * 2 - 1) * half
    y = ((torch.arange(rows, device=device) + 0.5) / rows * 2 - 1) * half * aspect
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((x, y, torch.ones_like(x)), dim=-1).flatten(0, 1)


def ray_features(
    relative_poses: Tensor, *, grid: tuple[int, int], aspect: float, fov_x: float
) -> Tensor:
    """Return direction, origin, moment and angular harmonics of each token's central ray.

    ``[B, T, 4, 4] -> [B, T, h * w, channels]``; direction and moment (origin x direction)
    are the ray's Pluecker coordinates.
    """
    device = relative_poses.device
    local = central_rays(grid, aspect=aspect, fov_x=fov_x, device=device)
    local = local / local.norm(dim=-1, keepdim=True)
    direction = torch.einsum("btij,nj->btni", relative_poses[..., :3, :3], local)
    origin = relative_poses[..., None, :3, 3].expand_as(direction)
    moment = torch.linalg.cross(origin, direction)
    azimuth = torch.atan2(direction[..., 0], direction[..., 2])
    elevation = torch.asin(direction[..., 1].clamp(-1, 1))
    harmonics = torch.tensor(_HARMONICS, device=device, dtype=direction.dtype)
    angles = torch.stack((azimuth, elevation), dim=-1)[..., None] * harmonics
    waves = torch.cat((angles.cos(), angles.sin()), dim=-1).flatten(-2)
    return torch.cat((direction, origin, moment, waves), dim=-1)
