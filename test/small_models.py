# SPDX-License-Identifier: Apache-2.0
"""Model folders with random weights that run in a moment, and clips with cameras for them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import save_model_folder
from hydra_model.config import (
    AutoencoderConfig,
    DetailConfig,
    ModelConfig,
    SamplerConfig,
    TransformerConfig,
    VideoConfig,
)
from hydra_model.transformer import Transformer
from hydra_model.video import write_video

# Of the default model's form; 17 frames of context, chunks of up to 9 frames.
CONFIG = ModelConfig(
    name="small",
    video=VideoConfig(height=48, width=80, fps=15.0, fov_x_degrees=70.0),
    autoencoder=AutoencoderConfig(
        latent_channels=4,
        base_dim=8,
        dim_mult=(1, 2, 2),
        num_res_blocks=1,
        temporal_downsample=(True, True),
        patch_size=2,
        latents_mean=(0.0,) * 4,
        latents_std=(1.0,) * 4,
    ),
    transformer=TransformerConfig(
        dim=48,
        num_heads=2,
        ffn_dim=96,
        num_blocks=2,
        freq_dim=16,
        text_dim=0,
        latent_channels=4,
        memory_source="context",
        relevance="attended",
        projector=False,
        window=3,
        top_k=2,
        camera="sweep",
        time_positions="time",
        space_positions="rays",
        value_positions="rays",
        detail=DetailConfig(dim=24, num_heads=2, ffn_dim=48, num_blocks=2, top_k=2),
    ),
    text=None,
    sampler=SamplerConfig(steps=2, shift=3.0, guidance_scale=1.0, round_timestep=False),
    context_latents=5,
    chunk_latents=3,
)


def write_model(folder: Path, **changes) -> ModelConfig:
    """Write a model folder; ``changes`` are fields of the configuration."""
    config = dataclasses.replace(CONFIG, **changes)
    torch.manual_seed(0)
    save_model_folder(
        folder,
        config,
        transformer=Transformer(config.transformer),
        autoencoder=Autoencoder(config.autoencoder),
    )
    return config


def write_example(
    folder: Path, name: str, *, frames: int = 17, height: int = 96, width: int = 160
) -> None:
    """Write NAME.mp4 and camNAME.json: a square that moves, a camera that turns (Unreal axes)."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = np.full((frames, height, width, 3), 90, np.uint8)
    for i in range(frames):
        pictures[i, 20:60, 2 * i : 2 * i + 40] = (220, 140, 40)
    write_video(folder / f"{name}.mp4", pictures, 15)
    halves = {
        key: {str(i): _turned(start + i) for i in range(17)}
        for key, start in (("cond_cam", 0), ("tgt_cam", 17))
    }
    (folder / f"cam{name}.json").write_text(json.dumps(halves))


def _turned(index: int) -> list[list[float]]:
    """A camera 2 m above the origin that turns by one degree per frame; centimetres."""
    cos, sin = np.cos(np.radians(index)), np.sin(np.radians(index))
    return [[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 200], [0, 0, 0, 1]]
