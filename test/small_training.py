# SPDX-License-Identifier: Apache-2.0
"""The released form of the model at the smallest size that can be trained."""

import dataclasses

import miniature

from hydra_model.config import SamplerConfig, VideoConfig

CONFIG = dataclasses.replace(
    miniature.CONFIG,
    video=VideoConfig(height=32, width=48),
    transformer=dataclasses.replace(miniature.CONFIG.transformer, window=2, top_k=2),
    sampler=SamplerConfig(steps=2, guidance_scale=1.0),
    context_latents=4,
    chunk_latents=4,
)
