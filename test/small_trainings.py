# SPDX-License-Identifier: Apache-2.0
"""Miniatures of the default model to train, and what a batch without subjects knows of them."""

import dataclasses

import torch

from hydra_model.config import DEFAULT, DetailConfig, SceneFlowConfig
from hydra_model.training.whereabouts import Forecast

CONFIG = dataclasses.replace(
    DEFAULT,
    video=dataclasses.replace(DEFAULT.video, height=32, width=48),
    autoencoder=dataclasses.replace(DEFAULT.autoencoder, base_dim=8),
    transformer=dataclasses.replace(
        DEFAULT.transformer, dim=48, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16,
        camera="rays", detail=None, scene_flow=None,
    ),
)
DETAIL = DetailConfig(dim=24, num_heads=2, ffn_dim=48, num_blocks=2, top_k=3)
SWEEP = dataclasses.replace(
    CONFIG, transformer=dataclasses.replace(CONFIG.transformer, camera="sweep")
)
FINE = dataclasses.replace(
    SWEEP, transformer=dataclasses.replace(SWEEP.transformer, detail=DETAIL)
)
FLOWING = dataclasses.replace(
    FINE,
    transformer=dataclasses.replace(
        FINE.transformer, scene_flow=SceneFlowConfig(after=1, hidden=16, num_blocks=1)
    ),
)
SHORT = dataclasses.replace(FLOWING, context_latents=8, chunk_latents=8)

NOTHING_SHOWN = Forecast(
    torch.zeros(2, 3, 4, 2, 3), torch.zeros(2, 3, 4, 3), torch.zeros(2, 3, 5, 3),
    torch.ones(2, 4, 2, 3), pixels=1024,
)  # fmt: skip
