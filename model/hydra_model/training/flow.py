# SPDX-License-Identifier: Apache-2.0
"""The flow-matching objective."""

from __future__ import annotations

import torch
from torch import Tensor

BLIND = 0.96  # above it a noisy latent shows next to nothing of the picture


def draw_sigmas(
    count: int, shift: float, generator: torch.Generator, *, blind_share: float = 0.0
) -> Tensor:
    """Draw noise shares, float32 ``[count]``: logit-normal, stratified, shifted towards noise.

    Stratified: the draws cover the distribution evenly, in random order, which takes variance
    out of the loss. ``blind_share`` of them lie between ``BLIND`` and 1 instead, evenly.
    """
    device = generator.device
    blind = round(count * blind_share)

    def even(places: int) -> Tensor:
        jitter = torch.rand(places, generator=generator, device=device)
        return (torch.arange(places, device=device) + jitter) / max(1, places)

    quantile = even(count - blind).clamp(1e-4, 1 - 1e-4)
    sigma = torch.sigmoid(torch.erfinv(2 * quantile - 1) * 2**0.5)
    sigma = shift * sigma / (1 + (shift - 1) * sigma)
    sigma = torch.cat((sigma, 1 - (1 - BLIND) * even(blind)))
    return sigma[torch.randperm(count, generator=generator, device=device)]


def mix(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return the noisy latents at ``sigma [B]``."""
    sigma = sigma.view(-1, *[1] * (latents.ndim - 1))
    return (1 - sigma) * latents + sigma * noise


def velocity_loss(
    prediction: Tensor, latents: Tensor, noise: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the weighted and the plain mean squared error of ``noise - latents``.

    All ``[B, C, T, H, W]``; ``weight [B, 1, T, H, W]`` is brought to mean 1 over the batch.
    """
    error = (prediction.float() - (noise - latents)).square().mean(1, keepdim=True)
    return (error * weight).sum() / weight.sum(), error.detach().mean()
