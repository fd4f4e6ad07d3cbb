# SPDX-License-Identifier: Apache-2.0
"""The worlds that are measured: real weights, or made-up ones of the released size."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.benchmark.made_up import fill
from hydra_model.config import ModelConfig, VideoConfig
from hydra_model.fast.acceleration import Acceleration
from hydra_model.fast.engine import Engine
from hydra_model.loading import choose_device, choose_dtype
from hydra_model.transformer import Conditioning, Transformer
from hydra_model.world import World

GENERATED = {"full-size": "hydra-1.3b", "miniature": "hydra-1.3b"}


def load_subject(model: str, *, device: str, dtype: str) -> World:
    """Return a world whose transformer runs the readable path, with a context to go on from.

    ``model`` is "default", a model folder, "full-size" (the released sizes with random weights:
    seconds and memory are the real ones, pictures mean nothing) or "miniature" (the same form,
    in very small).
    """
    if model in GENERATED:
        world = _generated(model, choose_device(device), dtype)
    else:
        world = World.load(Path(model) if model != "default" else model, device=device,
                           dtype=dtype, acceleration="reference")  # fmt: skip
    config = world.config
    frames = _picture_noise(config, config.context_frames)
    world.reset(frames, path(config.context_frames))
    return world


def _generated(model: str, device: torch.device, dtype: str) -> World:
    config = _generated_config(model)
    number = choose_dtype(dtype, device)
    with device:
        autoencoder = Autoencoder(config.autoencoder)
    fill(autoencoder, torch.Generator(device).manual_seed(1))
    text = config.text
    assert text is not None

    def embed(prompt: str) -> Tensor:
        words = torch.Generator().manual_seed(len(prompt))
        tokens = torch.randn(text.max_tokens, text.dim, generator=words)
        tokens[text.max_tokens // 5 :] = 0  # 102 of 512, as of a long caption
        return tokens

    return World(
        config, autoencoder.prepare(device, number),
        generated_transformer(model, device, number), embed_prompt=embed,
    )  # fmt: skip


def generated_transformer(model: str, device: torch.device, dtype: torch.dtype) -> Transformer:
    """Return the transformer with made-up weights, the same ones on every GPU of a kind."""
    with device:
        transformer = Transformer(_generated_config(model).transformer).to(dtype)
    fill(transformer, torch.Generator(device).manual_seed(0))
    return transformer.requires_grad_(False).eval()


@dataclasses.dataclass(frozen=True)
class GeneratedEngine:
    """Makes the same transformer's engine in another process."""

    model: str
    dtype: torch.dtype
    switches: Acceleration

    def __call__(self, device: torch.device) -> Engine:
        return Engine(generated_transformer(self.model, device, self.dtype), self.switches)


def _generated_config(model: str) -> ModelConfig:
    config = ModelConfig.from_name(GENERATED[model])
    return _miniature(config) if model == "miniature" else config


def _miniature(config: ModelConfig) -> ModelConfig:
    assert config.text is not None
    return dataclasses.replace(
        config,
        name="miniature",
        video=VideoConfig(height=64, width=96),
        transformer=dataclasses.replace(
            config.transformer, dim=64, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16,
            text_dim=16, latent_channels=4, top_k=2,
        ),
        autoencoder=dataclasses.replace(
            config.autoencoder, latent_channels=4, base_dim=4, num_res_blocks=1,
            latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4,
        ),
        text=dataclasses.replace(config.text, dim=16, max_tokens=16),
        context_latents=6,
        chunk_latents=6,
    )  # fmt: skip


def _picture_noise(config: ModelConfig, count: int) -> Any:
    size = (count, config.video.height // 8, config.video.width // 8, 3)
    coarse = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def path(count: int, start: int = 0) -> Any:
    """Return optical poses ``[count, 4, 4]`` of a camera that walks forward and turns."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    angle = 0.01 * np.arange(start, start + count)
    poses[:, 0, 0] = poses[:, 2, 2] = np.cos(angle)
    poses[:, 0, 2], poses[:, 2, 0] = np.sin(angle), -np.sin(angle)
    poses[:, 2, 3] = 0.02 * np.arange(start, start + count)
    return poses


@dataclasses.dataclass(frozen=True)
class ForwardInputs:
    """What one forward in the middle of a chunk's sampling is called with."""

    target: Tensor
    sigma: Tensor
    conditioning: Conditioning
    negative: Conditioning | None


@torch.inference_mode()
def forward_inputs(world: World) -> ForwardInputs:
    """Return the inputs of a forward of a full chunk that follows the world's context."""
    config, state = world.config, world.state()
    targets = world.targets(state, path(config.chunk_frames, config.context_frames))
    _, context = world.select(state, targets)
    guided = world.config.text is not None
    conditioning = world.condition(state, context, targets)
    negative = conditioning[1] if guided else None
    stride = config.autoencoder.spatial_stride
    shape = (1, config.autoencoder.latent_channels, config.chunk_latents,
             config.video.height // stride, config.video.width // stride)  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(shape, generator=generator)
    dtype = world.transformer.head.linear.weight.dtype
    sigma = torch.tensor([0.7], device=world.device)
    return ForwardInputs(target.to(world.device, dtype), sigma, conditioning[0], negative)
