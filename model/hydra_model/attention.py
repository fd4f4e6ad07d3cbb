# SPDX-License-Identifier: Apache-2.0
"""Retrieval attention: local frames at full resolution, memory frames by relevance.

Each query frame attends, in one softmax, to the frames of its local window and to the
memory tokens of the ``top_k`` memory frames most relevant to it (paper, section 3.3).

Shape legend: B batch, F query frames, S key frames, J memory frames, N tokens a frame,
M tokens a memory frame, H heads, D channels a head, W window, K selected.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydra_model.config import TransformerConfig


class RMSNorm(nn.Module):
    """Root-mean-square norm over the whole width, in float32; the gain comes after the cast."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight


class MemoryTokenizer(nn.Conv3d):
    """Pools frames of tokens into memory tokens, ``[B, F, h, w, C] -> [B, J, h', w', C]``."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(
            config.dim,
            config.dim,
            kernel_size=config.memory_stride,
            stride=config.memory_stride,
            groups=config.tokenizer_groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        if max(self.kernel_size) == 1:  # nothing is pooled: a product, without turning layouts
            groups = x.unflatten(-1, (self.groups, -1))
            assert self.bias is not None
            weight = self.weight.flatten(1).unflatten(0, (self.groups, -1))
            return torch.einsum("...gi,goi->...go", groups, weight).flatten(-2) + self.bias
        return super().forward(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


def window_frames(frames: int, window: int, device: torch.device) -> Tensor:
    """Return ``[F, W]``, the frames of each frame's local window, clamped at both ends."""
    window = min(window, frames)
    # Made on the device: a table sent from the CPU would make every block wait for the copy.
    start = (torch.arange(frames, device=device) - window // 2).clamp(0, frames - window)
    return start[:, None] + torch.arange(window, device=device)


def memory_in_window(window: Tensor, memory_frames: int, stride: int) -> Tensor:
    """Return bool ``[F, J]``: every frame that memory frame j stands for lies in the window."""
    first = torch.arange(memory_frames, device=window.device) * stride
    last = first + stride - 1
    return (first >= window[:, :1]) & (last <= window[:, -1:])


def relevance(query: Tensor, memory_key: Tensor, config: TransformerConfig) -> Tensor:
    """Return how relevant each memory frame is to each query frame, ``[B, F, J]``.

    ``query [B, F, h, w, C]`` and ``memory_key [B, J, h', w', C]`` are normed and not yet
    rotated. Which of the two published forms is used says ``config.relevance``; the third,
    ``attended_share``, compares what is rotated.
    """
    if config.relevance == "pooled":
        return query.mean((2, 3)) @ memory_key.mean((2, 3)).transpose(1, 2)
    stride = config.memory_stride[1:]
    rows, columns = memory_key.shape[2:4]
    pooled = query[:, :, : rows * stride[0], : columns * stride[1]]
    pooled = pooled.unflatten(3, (columns, stride[1])).unflatten(2, (rows, stride[0]))
    pooled = pooled.mean((3, 5))
    scale = (rows * columns) ** -1 * query.shape[-1] ** -0.5
    return scale * torch.einsum("bfrcd,bjrcd->bfj", pooled, memory_key)


def attended_share(query: Tensor, memory_key: Tensor, heads: int) -> Tensor:
    """Return which share of the attention to memory each memory frame would get, ``[B, F, J]``.

    ``query [B, F, h, w, C]`` and ``memory_key [B, J, M, C]`` are rotated. Queries are means of 2x2
    tokens (what is over at the edges is left out), so this is a quarter of the scores of an
    attention to all memory. Position by position, what is found is what stands at the same place
    of the image, which a camera that turned has moved; this finds it where it is now.
    """
    rows, columns = (min(2, n) for n in query.shape[2:4])
    pooled = F.avg_pool2d(
        query.flatten(0, 1).permute(0, 3, 1, 2), (rows, columns)
    ).flatten(2).transpose(1, 2)  # fmt: skip
    places = pooled.shape[1]
    pooled = pooled.unflatten(0, query.shape[:2]).flatten(1, 2).to(memory_key.dtype)
    query, key = (
        t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (pooled, memory_key.flatten(1, 2))
    )
    scores = (query @ key.transpose(-1, -2)).float() * query.shape[-1] ** -0.5
    frames = scores.unflatten(-1, memory_key.shape[1:3]).logsumexp(-1)
    return frames.softmax(-1).mean(1).unflatten(1, (-1, places)).mean(2)


def admissible_memory(
    frames: int, window: int, memory_frames: int, stride: int, top_k: int
) -> tuple[int, bool]:
    """Return how many memory frames to select and whether some frame has fewer than that.

    Counts what ``memory_in_window`` leaves, in Python: it depends on shapes alone, and asking
    the device would mean waiting for it.
    """
    window = min(window, frames)
    remaining = []
    for frame in range(frames):
        start = max(0, min(frame - window // 2, frames - window))
        inside = (start + window) // stride - -(-start // stride)
        remaining.append(memory_frames - max(0, min(inside, memory_frames)))
    count = min(top_k, max(remaining))
    return count, min(remaining) < count


def select_memory(scores: Tensor, count: int, excluded: Tensor | None = None) -> Tensor:
    """Return the indices ``[B, F, count]`` of the most relevant memory frames, best first.

    Selection is a decision, not a quantity: no gradient flows through it.
    """
    scores = scores.detach().float()
    if excluded is not None:
        scores = scores.masked_fill(excluded, -torch.inf)
    return scores.topk(count, dim=-1).indices


def gather_frames(x: Tensor, index: Tensor) -> Tensor:
    """Return frames ``index [B, F, K]`` of ``x [B, S, N, C]`` as ``[B, F, K * N, C]``.

    With gradients this is a product with a one-hot matrix: exact, and its backward is a
    product too, where that of indexing would be a slow scatter.
    """
    frames, tokens, channels = x.shape[1:]
    count = index.shape[1:]
    if torch.is_grad_enabled() and x.requires_grad:
        chosen = F.one_hot(index.flatten(1), frames).to(x.dtype) @ x.flatten(2)
        return chosen.view(-1, count[0], count[1] * tokens, channels)
    batch = torch.arange(x.shape[0], device=x.device)[:, None, None]
    return x[batch, index].flatten(2, 3)


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    """Softmax attention of ``query [..., N, C]`` over ``key, value [..., L, C]``, by heads.

    ``mask`` is bool ``[..., L]``, False where a key must not be seen.
    """
    leading = query.shape[:-2]
    query, key, value = (
        t.flatten(0, -3).unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value)
    )
    if mask is not None:
        mask = mask.flatten(0, -2)[:, None, None, :]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return out.transpose(1, 2).flatten(2).unflatten(0, leading)


def retrieval_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    window: Tensor,
    selected: Tensor,
    heads: int,
    valid: Tensor | None = None,
) -> Tensor:
    """Attend from each frame to its window and its selected memory, in one softmax.

    ``query, key, value [B, F, N, C]`` and ``memory_* [B, J, M, C]`` are rotated already;
    ``window [F, W]`` and ``selected [B, F, K]`` are frame indices; ``valid [B, F, K]`` is
    False at places that only fill up the selection of a frame with little memory. Returns
    ``[B, F, N, C]``. All frames are one batch of a single attention call.
    """
    local = window[None].expand(query.shape[0], -1, -1)
    keys = torch.cat((gather_frames(key, local), gather_frames(memory_key, selected)), dim=2)
    values = torch.cat((gather_frames(value, local), gather_frames(memory_value, selected)), dim=2)
    mask = None
    if valid is not None:
        near = torch.ones(*valid.shape[:2], local.shape[-1] * key.shape[2], dtype=torch.bool)
        far = valid.repeat_interleave(memory_key.shape[2], dim=-1)
        mask = torch.cat((near.to(far.device), far), dim=-1)
    return attend(query, keys, values, heads, mask)
