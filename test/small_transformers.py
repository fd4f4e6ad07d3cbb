# SPDX-License-Identifier: Apache-2.0
"""Small models in the released form, and inputs for them."""

import dataclasses

import torch

from hydra_model.config import TransformerConfig
from hydra_model.fast.acceleration import Acceleration
from hydra_model.fast.engine import Engine
from hydra_model.transformer import Conditioning, Transformer

TINY = TransformerConfig(
    dim=64, num_heads=2, ffn_dim=96, num_blocks=3, freq_dim=16, text_dim=8, latent_channels=4,
    window=3, top_k=2,
)  # fmt: skip


@torch.no_grad()
def random_model(**changes) -> Transformer:
    torch.manual_seed(3)
    model = Transformer(dataclasses.replace(TINY, **changes)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.1)
    return model


class Inputs:
    """Random inputs that depend on their shapes alone: ``context`` and ``target`` frames."""

    def __init__(self, model: Transformer, batch: int, context: int, target: int) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator)

        config = model.config
        self.clean = normal(batch, config.latent_channels, context, 8, 12)
        self.target = normal(batch, config.latent_channels, target, 8, 12)
        self.cameras = normal(batch, context, 1, 12), normal(batch, target, 1, 12)
        self.texts = normal(2, batch, 5, config.text_dim) if config.text_dim else (None, None)
        self.sigma = torch.linspace(0.9, 0.3, batch)

    @torch.no_grad()
    def conditionings(self, model: Transformer) -> list[Conditioning]:
        """Two that differ in their text alone."""
        times = [torch.arange(t.shape[2]).float() for t in (self.clean, self.target)]
        return [
            model.prepare(
                self.clean, *self.cameras, context_times=times[0], target_times=times[1], text=text
            )
            for text in self.texts
        ]


def plain_engine(device: torch.device) -> Engine:
    """The fast path of the random model, as one of several processes loads it."""
    return Engine(random_model().to(device), Acceleration(fusion="none", attention="gather"))
