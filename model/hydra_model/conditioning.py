# SPDX-License-Identifier: Apache-2.0
"""What a chunk starts from: when and where its frames are, its noise, its conditioning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hydra_model.cameras import check_poses, latent_poses, relative_poses
from hydra_model.config import ModelConfig
from hydra_model.memory import Context
from hydra_model.rays import previous_in_clip, token_cameras
from hydra_model.selection import Request
from hydra_model.transformer import Conditioning, Transformer

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Targets:
    """The frames of a chunk: ``poses [T, 4, 4]`` and ``times [T]``, and those of its latents."""

    poses: Array
    times: Array
    latent_poses: Array
    latent_times: Array


def chunk_targets(config: ModelConfig, start: float, poses: npt.ArrayLike) -> Targets:
    """Check the commanded poses of a chunk that follows the moment ``start`` (seconds).

    Accepted are 1 + stride * n poses, at most ``config.chunk_frames``.
    """
    checked = check_poses(poses, "poses")
    stride = config.autoencoder.temporal_stride
    if len(checked) > config.chunk_frames or (len(checked) - 1) % stride:
        raise ValueError(
            f"{len(checked)} poses; accepted: 1 + {stride}*n, at most {config.chunk_frames}"
        )
    times = start + np.arange(1, len(checked) + 1) / config.video.fps
    return Targets(checked, times, latent_poses(checked, stride), times[::stride])


def memory_request(config: ModelConfig, targets: Targets, fov_x: float) -> Request:
    """Return what to ask memory for, for a chunk seen with that field of view."""
    return Request(
        poses=targets.latent_poses,
        times=targets.latent_times,
        count=config.context_latents,
        multiple=config.transformer.memory_stride[0],
        fov_x=fov_x,
        aspect=config.video.height / config.video.width,
    )


def latent_shape(config: ModelConfig, count: int) -> tuple[int, int, int, int]:
    """Return the shape ``(C, count, h, w)`` of a model's latents."""
    stride = config.autoencoder.spatial_stride
    height, width = config.video.height // stride, config.video.width // stride
    return (config.autoencoder.latent_channels, count, height, width)


def chunk_noise(
    config: ModelConfig, seed: int, chunk: int, count: int, device: torch.device
) -> Tensor:
    """Return the noise ``[1, C, count, h, w]`` that the ``chunk``-th chunk of a seed begins with.

    Drawn on the CPU, from a stream of its own per chunk: equal on every device, and a restored
    state draws what it would have drawn.
    """
    words = np.random.SeedSequence([seed & (2**64 - 1), chunk]).generate_state(2)
    generator = torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))
    return torch.randn((1, *latent_shape(config, count)), generator=generator).to(device)


def condition(
    transformer: Transformer,
    config: ModelConfig,
    context: Context,
    target_poses: npt.ArrayLike,
    target_times: Array,
    *,
    fov_x: float,
    text: Tensor | None,
) -> Conditioning:
    """Prepare the transformer for B chunks that share a context and differ in their cameras.

    ``target_poses [B, k, 4, 4]`` and ``target_times [k]`` are those of the latent frames,
    ``text [1, L, text_dim]`` is the prompt's embedding where the model reads one.
    """
    weight = transformer.head.linear.weight
    poses = np.asarray(target_poses, dtype=np.float64)
    before = previous_in_clip(torch.from_numpy(poses)).numpy()

    def relative(past: Array, own: Array) -> Tensor:
        all_frames = [
            relative_poses(np.concatenate((past, target)), reference)
            for target, reference in zip(own, poses[:, 0], strict=True)
        ]
        return torch.from_numpy(np.stack(all_frames)).float().to(weight.device)

    camera, detail_camera = token_cameras(
        config, relative(context.poses, poses), relative(context.previous, before), fov_x=fov_x
    )
    split = len(context.times)
    # Latent-frame units since the first target frame.
    scale = config.video.fps / config.autoencoder.temporal_stride
    context_times, times = (
        torch.from_numpy((t - target_times[0]) * scale).to(weight.device)
        for t in (context.times, target_times)
    )
    batch = len(poses)
    return transformer.prepare(
        context.latents[None].to(weight.device, weight.dtype).expand(batch, -1, -1, -1, -1),
        camera[:, :split], camera[:, split:],
        context_times=context_times, target_times=times,
        text=None if text is None else text.expand(batch, -1, -1),
        detail_camera=detail_camera,
    )  # fmt: skip
