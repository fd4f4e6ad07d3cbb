# SPDX-License-Identifier: Apache-2.0
"""Flow matching: the noise schedule and the Euler sampler with guidance."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hydra_model.config import SamplerConfig
from hydra_model.transformer import Conditioning, Transformer


def schedule(steps: int, shift: float) -> Tensor:
    """Return the noise shares of the steps, float32 ``[steps]`` from 1 downwards.

    ``linspace(1, 0, steps + 1)`` without its last, shifted towards noise by
    ``shift * sigma / (1 + (shift - 1) * sigma)``; the step after the last reaches 0.
    """
    sigma = torch.linspace(1.0, 0.0, steps + 1)[:-1]
    return shift * sigma / (1 + (shift - 1) * sigma)


def integrate(
    transformer: Transformer,
    noise: Tensor,
    conditioning: Conditioning,
    config: SamplerConfig,
    *,
    negative: Conditioning | None = None,
    selections: list[Tensor] | None = None,
) -> Iterator[Tensor]:
    """Yield the target latents after each step; the last are clean. Arguments as for ``sample``.

    Whoever drives it decides what happens between two steps, and may stop at any.
    """
    dtype = transformer.head.linear.weight.dtype
    sigmas = [*schedule(config.steps, config.shift).tolist(), 0.0]
    latents = noise
    guided = config.guidance_scale != 1.0 and negative is not None
    for i in range(config.steps):
        timestep = torch.tensor(1000 * sigmas[i], dtype=torch.float64)
        if config.round_timestep:
            timestep = timestep.to(dtype).double()
        sigma = (timestep / 1000).expand(noise.shape[0]).to(noise.device)
        velocity = transformer(
            latents.to(dtype), sigma, conditioning, selections=selections
        ).float()
        if guided:
            other = transformer(latents.to(dtype), sigma, negative).float()
            velocity = other + config.guidance_scale * (velocity - other)
        latents = latents + velocity * (sigmas[i + 1] - sigmas[i])
        yield latents


def sample(
    transformer: Transformer,
    noise: Tensor,
    conditioning: Conditioning,
    config: SamplerConfig,
    *,
    negative: Conditioning | None = None,
    before_step: Callable[[int, int], None] | None = None,
    selections: list[Tensor] | None = None,
) -> Tensor:
    """Integrate from ``noise [B, channels, T, H, W]`` (float32) to clean target latents.

    ``negative`` conditions the guidance's other forward and is needed when
    ``guidance_scale`` is above 1 and the model reads text. ``before_step(i, steps)`` is called
    before each step; an exception it raises stops the sampling. ``selections``, when given,
    receives what ``Transformer.forward`` selects in every step (without guidance's other
    forward). Latents are kept in float32, the transformer runs in its own type.
    """
    latents = noise
    steps = integrate(
        transformer, noise, conditioning, config, negative=negative, selections=selections
    )
    for i in range(config.steps):
        if before_step is not None:
            before_step(i, config.steps)
        latents = next(steps)
    return latents
