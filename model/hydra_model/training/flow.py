# SPDX-License-Identifier: Apache-2.0
"""The flow-matching objective."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_sigmas(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Draw noise shares, float32 ``[count]``: logit-normal, stratified, shifted towards noise.

    Stratified: the ``count`` draws cover the distribution evenly, in random order, which
    takes variance out of the loss.
    """
    device = generator.device
    quantile = torch.arange(count, device=device) + torch.rand(
        count, generator=generator, device=device
    )
    quantile = (quantile / count).clamp(1e-4, 1 - 1e-4)
    quantile = quantile[torch.randperm(count, generator=generator, device=device)]
    sigma = torch.sigmoid(torch.erfinv(2 * quantile - 1) * 2**0.5)
    return shift * sigma / (1 + (shift - 1) * sigma)


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
