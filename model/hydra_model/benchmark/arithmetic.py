# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations of a forward, as the published forms count them."""

from __future__ import annotations

import dataclasses
import math

from hydra_model.config import ModelConfig
from hydra_model.detail import detail_config


def forward_operations(config: ModelConfig, text_tokens: int = 0) -> dict[str, float]:
    """Return operations by part of one forward of a full chunk after a full context.

    A multiplication and its addition are two. In the "all" form all frames run, in the "context"
    form the target alone. Norms and rotations are not counted.
    """
    form = config.transformer
    joint = form.memory_source == "all"
    frames = config.chunk_latents + (config.context_latents if joint else 0)
    stride = config.autoencoder.spatial_stride
    rows = config.video.height // stride // form.patch_size[1]
    columns = config.video.width // stride // form.patch_size[2]
    step, high, wide = form.memory_stride
    memory_tokens = (rows // high) * (columns // wide)
    memories = (frames if joint else config.context_latents) // step
    tokens, square = frames * rows * columns, form.dim**2
    keys = min(form.window, frames) * rows * columns + min(form.top_k, memories) * memory_tokens
    made = memories * memory_tokens if joint else 0  # memory tokens made in every forward
    linear = (4 + form.projector) * tokens * square + 2 * tokens * form.dim * form.ffn_dim
    cross = 0
    if form.text_dim:
        linear += 2 * tokens * square
        cross = 2 * tokens * text_tokens * form.dim
    patch = step * high * wide // form.tokenizer_groups
    parts = {
        "linear layers": linear,
        "self-attention": 2 * tokens * keys * form.dim,
        "tokenizer": made * (patch + 2) * square,
        "cross-attention": cross,
    }
    operations = {name: 2.0 * form.num_blocks * count for name, count in parts.items()}
    if form.detail is not None:
        finer = detail_config(form)
        same = dataclasses.replace(config, transformer=finer)
        spread = 2.0 * tokens * form.dim * finer.dim * math.prod(form.patch_size)
        operations["detail scale"] = spread + sum(forward_operations(same).values())
    return operations
