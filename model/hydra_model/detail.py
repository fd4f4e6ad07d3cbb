# SPDX-License-Identifier: Apache-2.0
"""A second, finer scale: every latent position retrieves from memory by itself.

A token of the default model covers 2x2 latent positions, a tenth of the image's width. Behind the
transformer's blocks a few narrow ones with one token per latent position attend to single
positions of the context. What is where, and what moves, they are told by the coarse tokens. The
context does not attend to itself at this scale: its coarse tokens did. What that was measured to
bring, and what not, is in docs/training.md.

Shape legend: B batch, T latent frames, h and w rows and columns of coarse tokens, H and W those of
latent positions, C the coarse width, D the width here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from hydra_model.blocks import Block, Head, Memory
from hydra_model.config import TransformerConfig
from hydra_model.rope import Rotation, ray_rotation, value_rotation
from hydra_model.scene_flow import memory_turns

# Of the rays' angles (hydra_model.rope): twice those of the coarse tokens, which are twice as wide.
_FINEST, _FINEST_VALUE = 32, 192


@dataclass(frozen=True)
class DetailConditioning:
    """What the sampling steps of a chunk share at this scale."""

    target_camera: Tensor  # [B, Tt, H * W, channels]
    memories: tuple[Memory, ...]  # one a block
    target_by: Rotation
    moves: Tensor | None = None  # [B, Tt, Tc, H * W, 2], of hydra_model.scene_flow


def detail_config(config: TransformerConfig) -> TransformerConfig:
    """Return the configuration of the finer blocks of a transformer."""
    own = config.detail
    assert own is not None
    return replace(
        config,
        dim=own.dim,
        num_heads=own.num_heads,
        ffn_dim=own.ffn_dim,
        num_blocks=own.num_blocks,
        top_k=own.top_k,
        text_dim=0,
        patch_size=(1, 1, 1),
        memory_stride=(1, 1, 1),
        tokenizer_groups=own.num_heads,
        projector=False,
        window=1,
        detail=None,
        scene_flow=None,
    )


class Detail(nn.Module):
    """Adds to the predicted velocity what single latent positions tell."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = detail_config(config)
        self.patch = config.patch_size[1:]
        self.frames = config.memory_stride[0]  # that a memory frame of the coarse blocks stands for
        width = self.config.dim
        places = self.patch[0] * self.patch[1] * width
        self.embedding = nn.Linear(config.latent_channels, width)
        self.context_tokens = nn.Linear(config.dim, places)
        self.target_tokens = nn.Linear(config.dim, places)
        self.time = nn.Linear(config.dim, width)
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(Block(self.config) for _ in range(self.config.num_blocks))
        self.head = Head(self.config)

    @property
    def layers(self) -> list[Block]:
        """The blocks, as what they are."""
        return cast("list[Block]", list(self.blocks))

    def prepare(
        self,
        context_latents: Tensor,
        tokens: Tensor,
        time: Tensor,
        camera: Tensor,
        *,
        context_times: Tensor,
        target_times: Tensor,
    ) -> DetailConditioning:
        """Make the memory of the context, once per chunk.

        ``context_latents [B, channels, Tc, H, W]``; ``tokens [B, Tc, h, w, C]`` are what the
        coarse blocks made of them and ``time [B, C]`` the embedding of time 0; ``camera
        [B, Tc + Tt, H * W, channels]``, best in float32.
        """
        split = context_latents.shape[2]
        size = context_latents.shape[3:]
        x = self.embed(context_latents, tokens, self.context_tokens)
        _, projected = self.embed_time(time)
        context_by, target_by = (
            self.rotation(times, part, size)
            for times, part in (
                (context_times, camera[:, :split]), (target_times, camera[:, split:])
            )
        )  # fmt: skip
        camera = camera.to(context_latents.dtype)
        memories = tuple(
            block.remember(x, projected, camera[:, :split], context_by) for block in self.layers
        )
        return DetailConditioning(camera[:, split:], memories, target_by)

    def forward(
        self,
        target_latents: Tensor,
        tokens: Tensor,
        time: Tensor,
        conditioning: DetailConditioning,
        selected: Tensor,
    ) -> Tensor:
        """Return what to add to the velocity of ``target_latents [B, channels, Tt, H, W]``.

        ``tokens [B, Tt, h, w, C]`` are the coarse blocks' and ``time [B, C]`` their embedding of
        the noise share; ``selected [B, Tt, K]`` are the memory frames that the last of them
        retrieved, best first, of which the first ``top_k`` frames are retrieved here.
        """
        cond = conditioning
        stride = self.frames
        chosen = selected[..., None] * stride + torch.arange(stride, device=selected.device)
        chosen = chosen.flatten(-2)[..., : self.config.top_k]
        x = self.embed(target_latents, tokens, self.target_tokens)
        time, projected = self.embed_time(time)
        turns = None if cond.moves is None else memory_turns(cond.moves, chosen, cond.target_by)
        for block, memory in zip(self.layers, cond.memories, strict=True):
            x = block.refine(
                x, projected, None, cond.target_camera, cond.target_by, memory, chosen, turns
            )
        return self.head(x, time).permute(0, 4, 1, 2, 3)

    def embed(self, latents: Tensor, tokens: Tensor, encoder: nn.Linear) -> Tensor:
        """Latents and the coarse tokens over them to tokens ``[B, T, H, W, D]``."""
        rows, columns = self.patch
        spread = encoder(F.layer_norm(tokens, tokens.shape[-1:], eps=self.config.eps))
        spread = rearrange(spread, "b t h w (p q d) -> b t (h p) (w q) d", p=rows, q=columns)
        return self.embedding(latents.permute(0, 2, 3, 4, 1)) + spread

    def embed_time(self, time: Tensor) -> tuple[Tensor, Tensor]:
        """The coarse time embedding ``[B, C]`` to ``[B, D]`` and its projection ``[B, 6, D]``."""
        own = self.time(time)
        return own, self.time_projection(own).unflatten(1, (6, -1))

    def rotation(self, times: Tensor, camera: Tensor, size: torch.Size) -> Rotation:
        """Return the rotation of the tokens at ``times [T]`` that see ``camera``'s rays."""
        config = self.config
        rows, columns = (torch.arange(n, device=times.device) for n in size)
        looks = camera[..., :3].unflatten(2, tuple(size)).float()
        by = ray_rotation(
            times, rows, columns, looks, config.head_dim, config.rope_theta, finest=_FINEST
        )
        if config.value_positions == "none":
            return by
        value = value_rotation(times, looks, config.head_dim, finest=_FINEST_VALUE)
        return replace(by, value=value)
