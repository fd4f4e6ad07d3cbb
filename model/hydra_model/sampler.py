# SPDX-License-Identifier: Apache-2.0
"""Flow matching: the noise schedule, and sampling with guidance, a solver and a step cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from hydra_model.config import SamplerConfig
from hydra_model.solvers import SOLVERS
from hydra_model.step_cache import StepCache
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
    sigmas = [*schedule(config.steps, config.shift).tolist(), 0.0]
    solver = SOLVERS[config.solver]()
    cache = StepCache(config.cache_threshold)
    latents = noise if config.temperature == 1.0 else config.temperature * noise
    for sigma, following in pairwise(sigmas):
        velocity = cache.reuse(latents)
        if velocity is None:
            velocity = guided_velocity(
                transformer, latents, sigma, conditioning, config,
                negative=negative, selections=selections,
            )  # fmt: skip
            cache.store(latents, velocity)
        latents = solver.step(latents, velocity, sigma, following)
        yield latents


def guided_velocity(
    transformer: Transformer,
    latents: Tensor,
    sigma: float,
    conditioning: Conditioning,
    config: SamplerConfig,
    *,
    negative: Conditioning | None = None,
    selections: list[Tensor] | None = None,
) -> Tensor:
    """Return the velocity at one step, float32, with guidance where the step wants it."""
    dtype = transformer.head.linear.weight.dtype
    timestep = torch.tensor(1000 * sigma, dtype=torch.float64)
    if config.round_timestep:
        timestep = timestep.to(dtype).double()
    sigmas = (timestep / 1000).expand(latents.shape[0]).to(latents.device)
    low, high = config.guidance_interval
    if negative is None or config.guidance_scale == 1.0 or not low <= sigma <= high:
        velocity = transformer(latents.to(dtype), sigmas, conditioning, selections=selections)
        return velocity.float()
    pair = transformer.pair(
        latents.to(dtype), sigmas, conditioning, negative, selections=selections
    )
    velocity, other = (prediction.float() for prediction in pair)
    return other + config.guidance_scale * (velocity - other)


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
    receives what ``Transformer.forward`` selects in every step that runs it (without guidance's
    other forward). Latents are kept in float32, the transformer runs in its own type.
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
