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


def velocity_error(
    prediction: Tensor, latents: Tensor, noise: Tensor, channels: Tensor | None = None
) -> Tensor:
    """Return the squared error of ``noise - latents``, mean over channels ``[B, 1, T, H, W]``.

    All are ``[B, C, T, H, W]``; ``channels [C]`` are weights of mean 1.
    """
    error = (prediction.float() - (noise - latents)).square()
    if channels is not None:
        error = error * channels.view(-1, 1, 1, 1)
    return error.mean(1, keepdim=True)


def weighted_mean(error: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of ``error [B, 1, T, H, W]`` under a ``weight`` of the same shape."""
    return (error * weight).sum() / weight.sum()


def frame_balance(error: Tensor, background: Tensor, power: float, floor: float) -> Tensor:
    """Return weights ``[B, 1, T, 1, 1]`` of latent frames that favour those that are nearly right.

    A frame's weight is its mean error over the ``background`` (bool, shape of ``error``) plus
    ``floor``, to the power of ``-power``: with 1 the decibels of frames are what is optimised,
    not the errors, most of which lie in frames that nobody could know. Scaled so that the
    weighted errors of the background add up to what they were.
    """
    error = error.detach() * background
    places = background.sum((-2, -1), keepdim=True).clamp(min=1)
    weight = (error.sum((-2, -1), keepdim=True) / places + floor) ** -power
    return weight * error.sum() / (error * weight).sum().clamp(min=1e-12)
