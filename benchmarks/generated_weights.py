# SPDX-License-Identifier: Apache-2.0
"""Random weights with the names, shapes and types of the released files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints.assign import on_meta
from hydra_model.checkpoints.upstream_names import (
    autoencoder_names,
    text_names,
    transformer_names,
    wan_base_names,
)
from hydra_model.config import AutoencoderConfig, ModelConfig, TextConfig, VideoConfig
from hydra_model.text import build_text_model
from hydra_model.transformer import Transformer

Tensors = dict[str, Tensor]
Device = torch.device | str


def model_config(preset: str) -> ModelConfig:
    """Return the configuration: the released one, or the same form in very small."""
    config = ModelConfig.from_name("hydra-1.3b")
    if preset == "hydra-1.3b":
        return config
    return dataclasses.replace(
        config,
        name="miniature",
        video=VideoConfig(height=32, width=64),
        transformer=dataclasses.replace(
            config.transformer, dim=48, num_heads=2, ffn_dim=64, num_blocks=2, freq_dim=16,
            text_dim=16, latent_channels=4,
        ),
        autoencoder=AutoencoderConfig(
            latent_channels=4, base_dim=4, num_res_blocks=1,
            latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4,
        ),
        text=TextConfig(
            vocab_size=32, dim=16, ffn_dim=16, num_heads=2, num_blocks=2, num_buckets=8,
            max_tokens=16,
        ),
    )  # fmt: skip


def transformer_weights(config: ModelConfig, dtype: torch.dtype, device: Device) -> Tensors:
    """Return what ``hydra.ckpt`` holds, with random numbers."""
    ours = on_meta(lambda: Transformer(config.transformer)).state_dict()
    return random_weights(ours, transformer_names(ours), dtype, device)


def base_weights(config: ModelConfig, dtype: torch.dtype, device: Device) -> Tensors:
    """Return what the Wan base holds, with random numbers."""
    ours = on_meta(lambda: Transformer(config.transformer)).state_dict()
    return random_weights(ours, wan_base_names(ours), dtype, device)


def autoencoder_weights(config: ModelConfig, dtype: torch.dtype, device: Device) -> Tensors:
    """Return what ``Wan2.1_VAE.pth`` holds, with random numbers."""
    ours = on_meta(lambda: Autoencoder(config.autoencoder)).state_dict()
    names = autoencoder_names(ours, config.autoencoder.num_res_blocks)
    return random_weights(ours, names, dtype, device)


def text_weights(config: ModelConfig, dtype: torch.dtype, device: Device) -> Tensors:
    """Return what the umT5 encoder's file holds, with random numbers."""
    assert config.text is not None
    text = config.text
    ours = on_meta(lambda: build_text_model(text)).state_dict()
    return random_weights(ours, text_names(ours), dtype, device)


def random_weights(
    ours: Mapping[str, Tensor], names: Mapping[str, str], dtype: torch.dtype, device: Device
) -> Tensors:
    """Return released name -> tensor on the CPU, drawn on ``device`` so that it is fast.

    Norms are one, biases zero, and products keep the size of what goes through them, so that
    numbers stay finite through all blocks.
    """
    tensors = {}
    for name, released in names.items():
        shape = ours[name].shape
        module, _, leaf = name.rpartition(".")
        if leaf == "gamma" or (leaf == "weight" and "norm" in module.rpartition(".")[2]):
            values = torch.ones(shape, dtype=dtype)
        elif leaf == "bias":
            values = torch.zeros(shape, dtype=dtype)
        else:
            fan_in = math.prod(shape[1:]) if len(shape) > 1 and leaf == "weight" else 2500
            values = torch.randn(shape, dtype=dtype, device=device).mul_(fan_in**-0.5).cpu()
        tensors[released] = values
    return tensors
