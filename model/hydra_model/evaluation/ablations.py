# SPDX-License-Identifier: Apache-2.0
"""The same weights with another attention: every key, or memory chosen by field of view.

The paper's ablation in small. Nothing is trained for these rows, so they say what HyDRA's
retrieval loses against attending to everything, and gains over choosing by geometry.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hydra_model import attention as att
from hydra_model.blocks import Memory, SelfAttention
from hydra_model.config import ModelConfig
from hydra_model.overlap import target_points, view_quality
from hydra_model.rope import Rotation
from hydra_model.transformer import Transformer


class EveryKey:
    """Dense attention: every token of the context and of the target, none pooled.

    Takes the place of one block's retrieval, in the paper's form.
    """

    def __init__(self, attention: SelfAttention) -> None:
        self.attention = attention
        self._key = self._value = torch.empty(0)

    def attach(self) -> None:
        own = self.attention
        own.within = self.within  # type: ignore[method-assign]
        own.retrieve = self.retrieve  # type: ignore[method-assign]

    def within(self, y: Tensor, by: Rotation) -> Tensor:
        """Keep the context's keys and values, then attend as usual."""
        _, _, self._key, self._value = self.attention.project(y, by)
        return SelfAttention.within(self.attention, y, by)

    def retrieve(
        self, y: Tensor, by: Rotation, memory: Memory, *, exclude_window: bool
    ) -> tuple[Tensor, Tensor]:
        own = self.attention
        _, query, key, value = own.project(y, by)
        keys = torch.cat((self._key, key), dim=1).flatten(1, 2)
        values = torch.cat((self._value, value), dim=1).flatten(1, 2)
        out = att.attend(query.flatten(1, 2), keys, values, own.config.num_heads)
        every = torch.arange(memory.key.shape[1], device=y.device)
        return own.leave(out.view(y.shape), by), every.expand(*y.shape[:2], -1)


def attend_to_everything(transformer: Transformer) -> Transformer:
    """Give a transformer of the paper's form dense attention, in place; return it.

    At a detail scale all context frames are retrieved. Blocks that retrieve by scene flow have
    every frame as their window, and the whole memory where its content is by then.
    """
    if transformer.config.memory_source != "context":
        raise ValueError('dense attention is for models with memory_source "context"')
    for block in transformer.layers:
        EveryKey(block.self_attention).attach()
        block.self_attention.config = dataclasses.replace(transformer.config, window=sys.maxsize)
    if transformer.detail is not None:
        own = transformer.detail
        own.config = dataclasses.replace(own.config, top_k=sys.maxsize)
    return transformer


def retrieve_chosen(
    attention: SelfAttention,
    chosen: list[Tensor],
    y: Tensor,
    by: Rotation,
    memory: Memory,
    *,
    exclude_window: bool,
) -> tuple[Tensor, Tensor]:
    """Retrieve the memory frames ``chosen[0] [B, T, K]`` instead of the most relevant."""
    return attention.retrieve_chosen(y, by, memory, chosen[0]), chosen[0]


def choose_memory(transformer: Transformer) -> list[Tensor]:
    """Let all blocks retrieve what the returned list holds, in place: set its item 0."""
    if transformer.config.memory_source != "context":
        raise ValueError('retrieval by overlap is for models with memory_source "context"')
    chosen: list[Tensor] = [torch.empty(0)]
    for block in transformer.layers:
        own = block.self_attention
        own.retrieve = partial(retrieve_chosen, own, chosen)  # type: ignore[method-assign]
    return chosen


def overlapping_memory(
    context_poses: Tensor, target_poses: Tensor, config: ModelConfig, *, fov_x: float
) -> Tensor:
    """Return the memory frames ``[B, Tt, K]`` that saw best what each target frame sees.

    Poses are of latent frames, float64 ``[B, T, 4, 4]``. A memory frame counts with the better
    of the frames that it stands for.
    """
    own = config.transformer
    stride = own.memory_stride[0]
    aspect = config.video.height / config.video.width
    memories = context_poses.shape[1] // stride
    chosen = []
    for context, target in zip(
        context_poses.double().cpu().numpy(), target_poses.double().cpu().numpy(), strict=True
    ):
        rows = []
        for pose in target:
            seen = view_quality(context, target_points(pose[None], fov_x, aspect), fov_x, aspect)
            score = seen.mean(1)[: memories * stride].reshape(memories, stride).max(1)
            # Of memory frames that saw nothing of it, the newer ones.
            rows.append(np.lexsort((-np.arange(memories), -score))[: own.top_k])
        chosen.append(np.stack(rows))
    return torch.from_numpy(np.stack(chosen))


def keys_per_query(config: ModelConfig, *, top_k: int | None = None, dense: bool = False) -> int:
    """Return how many keys a token of the target attends to, with a full context.

    ``top_k`` other than the model's, or ``dense`` for every token of context and target.
    """
    own = config.transformer
    stride = config.autoencoder.spatial_stride
    rows = config.video.height // stride // own.patch_size[1]
    columns = config.video.width // stride // own.patch_size[2]
    if dense:
        return (config.context_latents + config.chunk_latents) * rows * columns
    frames = config.context_latents
    if own.memory_source == "all":
        frames += config.chunk_latents
    depth, *across = own.memory_stride
    memory = math.prod(n // s for n, s in zip((rows, columns), across, strict=True))
    count = min(own.top_k if top_k is None else top_k, frames // depth)
    return min(own.window, config.chunk_latents) * rows * columns + count * memory
