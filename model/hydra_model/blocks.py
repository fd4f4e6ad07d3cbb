# SPDX-License-Identifier: Apache-2.0
"""One block of HyDRA's transformer, in both published forms, and the head.

Shape legend: B batch, T latent frames, h and w rows and columns of tokens, N = h * w,
C width, J memory frames, M tokens a memory frame, K selected memory frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydra_model import attention as att
from hydra_model.config import TransformerConfig
from hydra_model.rays import camera_channels
from hydra_model.rope import Rotation, rotate
from hydra_model.scene_flow import Turn, Turns


@dataclass(frozen=True)
class Memory:
    """What one block keeps of the context: rotated keys, values, and keys for relevance."""

    key: Tensor  # [B, J, M, C]
    value: Tensor  # [B, J, M, C]
    relevance_key: Tensor  # [B, J, h', w', C], not rotated


class SelfAttention(nn.Module):
    """Self-attention with retrieved memory; queries and keys are RMS-normed over the width."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.query = nn.Linear(config.dim, config.dim)
        self.key = nn.Linear(config.dim, config.dim)
        self.value = nn.Linear(config.dim, config.dim)
        self.output = nn.Linear(config.dim, config.dim)
        self.norm_query = att.RMSNorm(config.dim, config.eps)
        self.norm_key = att.RMSNorm(config.dim, config.eps)
        self.tokenizer = att.MemoryTokenizer(config)
        self.projector = nn.Linear(config.dim, config.dim) if config.projector else nn.Identity()
        self.attend_frames = att.retrieval_attention  # training on a GPU has one of its own

    def rotate_frames(self, x: Tensor, by: Rotation) -> Tensor:
        """Rotate ``x [B, T, N, C]`` by heads."""
        heads = x.flatten(1, 2).unflatten(-1, (self.config.num_heads, -1))
        return rotate(heads, by).flatten(2).view(x.shape)

    def place_values(self, value: Tensor, by: Rotation) -> Tensor:
        """Rotate ``value [B, T, N, C]`` where values have positions."""
        return value if by.value is None else self.rotate_frames(value, by.value)

    def memorise(self, y: Tensor, by: Rotation) -> Memory:
        """Make a memory of ``y [B, T, h, w, C]``."""
        tokens = self.tokenizer(y)
        key = self.norm_key(self.key(tokens))
        return Memory(
            key=self.rotate_frames(key.flatten(2, 3), by),
            value=self.place_values(self.value(tokens).flatten(2, 3), by),
            relevance_key=key,
        )

    def project(self, y: Tensor, by: Rotation) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return query before rotation ``[B, T, h, w, C]`` and placed query, key, value."""
        query = self.norm_query(self.query(y))
        key = self.norm_key(self.key(y))
        value = self.value(y)
        return (
            query,
            self.rotate_frames(query.flatten(2, 3), by),
            self.rotate_frames(key.flatten(2, 3), by),
            self.place_values(value.flatten(2, 3), by),
        )

    def retrieve(
        self, y: Tensor, by: Rotation, memory: Memory, *, exclude_window: bool
    ) -> tuple[Tensor, Tensor]:
        """Attend from every frame of ``y [B, T, h, w, C]`` to its window and to the memory.

        Returns the output in the shape of ``y`` and the selected memory frames
        ``[B, T, K]``, best first (-1 where a frame had fewer admissible ones).
        """
        query, rotated, key, value = self.project(y, by)
        window = att.window_frames(y.shape[1], self.config.window, y.device)
        selected, valid = self._select(query, rotated, memory, window, exclude_window)
        out = self.attend_frames(
            rotated, key, value, memory.key, memory.value, window, selected,
            self.config.num_heads, valid,
        )  # fmt: skip
        out = self.leave(out.view(query.shape), by)
        return out, selected if valid is None else selected.masked_fill(~valid, -1)

    def retrieve_chosen(
        self, y: Tensor, by: Rotation, memory: Memory, chosen: Tensor, turns: Turns | None = None
    ) -> Tensor:
        """Attend as ``retrieve`` does, to memory frames ``chosen [B, T, K]`` by somebody else.

        ``turns``, if given, turn what they hold to where it will be seen.
        """
        _, rotated, key, value = self.project(y, by)
        window = att.window_frames(y.shape[1], self.config.window, y.device)
        if turns is not None:
            near = window[None].expand(len(y), -1, -1)
            keys, values = (
                torch.cat((att.gather_frames(own, near), far), dim=2)
                for own, far in (
                    (key, self.turn_frames(memory.key, chosen, turns.key)),
                    (value, self.turn_frames(memory.value, chosen, turns.value)),
                )
            )
            out = att.attend(rotated, keys, values, self.config.num_heads)
            return self.leave(out.view(y.shape), by)
        out = self.attend_frames(
            rotated, key, value, memory.key, memory.value, window, chosen, self.config.num_heads
        )
        return self.leave(out.view(y.shape), by)

    def turn_frames(self, kept: Tensor, chosen: Tensor, turn: Turn | None) -> Tensor:
        """Gather ``kept [B, J, M, C]`` by ``chosen [B, T, K]``, turned: ``[B, T, K * M, C]``."""
        rows = att.gather_frames(kept, chosen)
        if turn is None:
            return rows
        heads = rows.flatten(1, 2).unflatten(-1, (self.config.num_heads, -1))
        own = turn.channels
        parts = (heads[..., : own.start], rotate(heads[..., own], turn.by), heads[..., own.stop :])
        return torch.cat(parts, dim=-1).flatten(2).view(rows.shape)

    def _select(
        self, query: Tensor, rotated: Tensor, memory: Memory, window: Tensor, exclude_window: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the most relevant memory frames, and which of them are admissible."""
        config = self.config
        frames, memory_frames = query.shape[1], memory.key.shape[1]
        stride = config.memory_stride[0]
        if config.relevance == "attended":
            turned = rotated.detach().view(query.shape)
            scores = att.attended_share(turned, memory.key.detach(), config.num_heads)
        else:
            scores = att.relevance(query, memory.relevance_key, config)
        excluded = valid = None
        count = min(config.top_k, memory_frames)
        ragged = False
        if exclude_window:
            excluded = att.memory_in_window(window, memory_frames, stride)
            count, ragged = att.admissible_memory(
                frames, config.window, memory_frames, stride, config.top_k
            )
        selected = att.select_memory(scores, count, excluded)
        if ragged and excluded is not None:
            valid = ~excluded[None].expand_as(scores).gather(-1, selected)
        return selected, valid

    def within(self, y: Tensor, by: Rotation) -> Tensor:
        """Attend from every token of ``y [B, T, h, w, C]`` to every other."""
        _, query, key, value = self.project(y, by)
        out = att.attend(
            query.flatten(1, 2), key.flatten(1, 2), value.flatten(1, 2), self.config.num_heads
        )
        return self.leave(out.view(y.shape), by)

    def leave(self, attended: Tensor, by: Rotation) -> Tensor:
        """Return the output for what the queries of ``by`` got, ``[B, T, h, w, C]``."""
        if by.value is not None:
            turned = self.rotate_frames(attended.flatten(2, 3), by.value.back)
            attended = turned.view(attended.shape)
        return self.projector(self.output(attended))


def _modulation(rows: int, dim: int) -> nn.Parameter:
    values = torch.empty(1, rows, dim)
    if not values.is_meta:  # there drawing numbers would load a compiler, which takes a second
        values = values.normal_() / dim**0.5
    return nn.Parameter(values)


class CrossAttention(nn.Module):
    """Attention to the text tokens; no mask, as padding rows are part of the training."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.query = nn.Linear(config.dim, config.dim)
        self.key = nn.Linear(config.dim, config.dim)
        self.value = nn.Linear(config.dim, config.dim)
        self.output = nn.Linear(config.dim, config.dim)
        self.norm_query = att.RMSNorm(config.dim, config.eps)
        self.norm_key = att.RMSNorm(config.dim, config.eps)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        query = self.norm_query(self.query(x)).flatten(1, 3)
        key, value = self.norm_key(self.key(text)), self.value(text)
        return self.output(att.attend(query, key, value, self.heads)).view(x.shape)


class Block(nn.Module):
    """Self-attention with memory and camera, cross-attention to text, feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.modulation = _modulation(6, config.dim)
        self.self_attention = SelfAttention(config)
        if config.text_dim:
            self.norm_cross = nn.LayerNorm(config.dim, eps=config.eps)
            self.cross_attention = CrossAttention(config)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, config.dim),
        )
        channels = camera_channels(config.camera)
        self.camera_context = nn.Linear(channels, config.dim)
        self.camera_target = nn.Linear(channels, config.dim)

    def norm(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps) * (1 + scale) + shift

    def modulations(self, time: Tensor) -> list[Tensor]:
        """Split ``time [B, 6, C]`` into shift, scale and gate of attention and feed-forward."""
        # In the activations' type, so that under autocast the residual stream stays narrow.
        modulation = (self.modulation + time).to(time.dtype)
        return list(modulation[:, :, None, None, None].unbind(1))

    def add_camera(self, y: Tensor, encoder: nn.Linear, camera: Tensor) -> Tensor:
        """Add the encoded camera ``[B, T, 1 or N, channels]`` to ``y [B, T, h, w, C]``."""
        encoded = encoder(camera)
        return (y.flatten(2, 3) + encoded).view(y.shape)

    def finish(self, x: Tensor, attended: Tensor, mod: list[Tensor], text: Tensor | None) -> Tensor:
        x = x + mod[2] * attended
        if text is not None:
            x = x + self.cross_attention(self.norm_cross(x), text)
        return x + mod[5] * self.ffn(self.norm(x, mod[3], mod[4]))

    def joint(
        self, x: Tensor, time: Tensor, text: Tensor | None,
        context_camera: Tensor, target_camera: Tensor, by: Rotation, memory_by: Rotation,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The released form: ``x`` holds context and target frames."""
        mod = self.modulations(time)
        y = self.norm(x, mod[0], mod[1])
        split = context_camera.shape[1]
        y = torch.cat(
            (
                self.add_camera(y[:, :split], self.camera_context, context_camera),
                self.add_camera(y[:, split:], self.camera_target, target_camera),
            ),
            dim=1,
        )
        memory = self.self_attention.memorise(y, memory_by)
        attended, selected = self.self_attention.retrieve(y, by, memory, exclude_window=True)
        return self.finish(x, attended, mod, text), selected

    def remember(self, x: Tensor, time: Tensor, camera: Tensor, memory_by: Rotation) -> Memory:
        """Return the memory of context tokens ``x`` without attending within them."""
        mod = self.modulations(time)
        y = self.add_camera(self.norm(x, mod[0], mod[1]), self.camera_context, camera)
        return self.self_attention.memorise(y, memory_by)

    def context(
        self, x: Tensor, time: Tensor, text: Tensor | None,
        camera: Tensor, by: Rotation, memory_by: Rotation,
    ) -> tuple[Tensor, Memory]:  # fmt: skip
        """The paper's form, context half: attend within, and leave a memory."""
        mod = self.modulations(time)
        y = self.add_camera(self.norm(x, mod[0], mod[1]), self.camera_context, camera)
        memory = self.self_attention.memorise(y, memory_by)
        return self.finish(x, self.self_attention.within(y, by), mod, text), memory

    def target(
        self, x: Tensor, time: Tensor, text: Tensor | None,
        camera: Tensor, by: Rotation, memory: Memory,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The paper's form, target half: local window plus retrieved context memory."""
        mod = self.modulations(time)
        y = self.add_camera(self.norm(x, mod[0], mod[1]), self.camera_target, camera)
        attended, selected = self.self_attention.retrieve(y, by, memory, exclude_window=False)
        return self.finish(x, attended, mod, text), selected

    def refine(
        self, x: Tensor, time: Tensor, text: Tensor | None, camera: Tensor, by: Rotation,
        memory: Memory, chosen: Tensor, turns: Turns | None = None,
    ) -> Tensor:  # fmt: skip
        """As ``target``, with memory frames ``chosen [B, T, K]`` by other blocks.

        ``turns`` as for ``SelfAttention.retrieve_chosen``.
        """
        mod = self.modulations(time)
        y = self.add_camera(self.norm(x, mod[0], mod[1]), self.camera_target, camera)
        attended = self.self_attention.retrieve_chosen(y, by, memory, chosen, turns)
        return self.finish(x, attended, mod, text)


class Head(nn.Module):
    """Modulated norm and the product back to latent patches."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.modulation = _modulation(2, config.dim)
        self.linear = nn.Linear(config.dim, config.latent_channels * math.prod(config.patch_size))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.modulation + time[:, None])[:, :, None, None, None].unbind(1)
        return self.linear(F.layer_norm(x, x.shape[-1:], eps=self.eps) * (1 + scale) + shift)
