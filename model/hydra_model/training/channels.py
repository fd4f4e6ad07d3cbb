# SPDX-License-Identifier: Apache-2.0
"""How much of the picture hangs on each channel of the latents."""

from __future__ import annotations

import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import ModelConfig
from hydra_model.procedural import sample_worlds
from hydra_model.training.data import render_clips, to_video

_FIRST_SEED = 900_000_000  # of worlds that no run reaches
_WORLDS = 2
_CHANGE = 0.3  # deviations of a channel


@torch.no_grad()
def channel_weights(config: ModelConfig, autoencoder: Autoencoder, power: float) -> Tensor:
    """Return weights ``[C]``, mean 1, of an error in each latent channel.

    They go with the squared error of the decoded picture that noise in the channel makes, to the
    ``power``: with 1 what is optimised is, for small errors, that of the picture.
    """
    device = next(autoencoder.parameters()).device
    seeds = torch.arange(_FIRST_SEED, _FIRST_SEED + _WORLDS)
    worlds = sample_worlds(seeds, style=config.world_style, device=device)
    frames = render_clips(config, worlds, list(range(config.chunk_frames)), None, 0)[0]
    latents = autoencoder.encode(to_video(frames).to(autoencoder.wan.dtype))
    picture = autoencoder.decode(latents)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(latents[:, 0].shape, generator=generator).to(latents)
    changes = []
    for channel in range(latents.shape[1]):
        other = latents.clone()
        other[:, channel] += _CHANGE * noise
        changes.append((autoencoder.decode(other) - picture).square().mean())
    weights = torch.stack(changes) ** power
    return weights / weights.mean()
