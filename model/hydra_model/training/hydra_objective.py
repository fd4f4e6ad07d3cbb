# SPDX-License-Identifier: Apache-2.0
"""HyDRA's own training: what is trained, from what start, and the loss.

Flow matching at one of ``timesteps`` noise levels for all frames; the context stays clean and
only the target's half of the prediction counts, weighted by a bell curve.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hydra_model.config import SamplerConfig
from hydra_model.sampler import sample, schedule
from hydra_model.training import flow
from hydra_model.training.latent_batches import LatentBatch
from hydra_model.transformer import Conditioning, Transformer

Bell = Literal["index", "timestep"]

# What HyDRA trains on top of the Wan base.
TRAINED = re.compile(r"blocks\.\d+\.(self_attention|camera_context|camera_target)\.")


def trained_parts(name: str) -> bool:
    """Say whether HyDRA trains a parameter: self-attention, tokenizer, projector, cameras."""
    return TRAINED.match(name) is not None


@torch.no_grad()
def initialise_additions(model: Transformer) -> None:
    """Give what HyDRA adds to its base its start: cameras at zero, the projector at identity."""
    for block in model.layers:
        for encoder in (block.camera_context, block.camera_target):
            nn.init.zeros_(encoder.weight)
            nn.init.zeros_(encoder.bias)
        projector = block.self_attention.projector
        if isinstance(projector, nn.Linear):
            nn.init.eye_(projector.weight)
            nn.init.zeros_(projector.bias)


@dataclass(frozen=True)
class NoiseLevels:
    """The levels that training draws from: noise shares and loss weights, float32 ``[n]``."""

    sigmas: Tensor
    weights: Tensor


def noise_levels(count: int = 1000, shift: float = 5.0, bell: Bell = "index") -> NoiseLevels:
    """Return the levels of the shifted schedule with weights of mean 1.

    The weight is exp(-2 ((x - count/2) / count)^2), lowered until its least is 0. ``bell`` says
    what x is: the level's "index" (0 is pure noise), or its "timestep", count * sigma, which a
    shift puts elsewhere.
    """
    sigmas = schedule(count, shift)
    x = torch.arange(count, dtype=torch.float32) if bell == "index" else count * sigmas
    height = torch.exp(-2 * ((x - count / 2) / count).square())
    height = height - height.min()
    return NoiseLevels(sigmas, height * (count / height.sum()))


class FlowObjective(nn.Module):
    """The transformer with its loss, as one module that can be sharded.

    ``round_timestep`` rounds 1000 * sigma to bfloat16 before it is embedded, as the released
    pipeline does.
    """

    def __init__(
        self, transformer: Transformer, levels: NoiseLevels, *, round_timestep: bool = True
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.levels = levels
        self.round_timestep = round_timestep

    def forward(self, batch: LatentBatch) -> tuple[Tensor, Tensor]:
        """Return the mean of the clips' weighted losses, and of their plain errors."""
        device = batch.target.device
        sigma = self.levels.sigmas.to(device)[batch.level]
        noisy = flow.mix(batch.target, batch.noise, sigma)
        if self.round_timestep:
            sigma = (1000 * sigma).bfloat16().double() / 1000
        dtype = self.transformer.patch_embedding.weight.dtype
        prediction = self.transformer(noisy.to(dtype), sigma, self.prepare(batch))
        error = (prediction.float() - (batch.noise - batch.target)).square().mean((1, 2, 3, 4))
        weights = self.levels.weights.to(device)[batch.level]
        return (error * weights).mean(), error.detach().mean()

    def prepare(self, batch: LatentBatch) -> Conditioning:
        dtype = self.transformer.patch_embedding.weight.dtype
        return self.transformer.prepare(
            batch.context.to(dtype),
            batch.context_camera.to(dtype),
            batch.target_camera.to(dtype),
            context_times=batch.context_times,
            target_times=batch.target_times,
            text=None if batch.text is None else batch.text.to(dtype),
            detail_camera=batch.detail_camera,
        )

    @torch.no_grad()
    def sample(self, batch: LatentBatch, config: SamplerConfig) -> Tensor:
        """Return the clean latents that the batch's noise leads to, without guidance."""
        return sample(self.transformer, batch.noise, self.prepare(batch), config)
