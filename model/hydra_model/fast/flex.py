# SPDX-License-Identifier: Apache-2.0
"""Retrieval attention by PyTorch's FlexAttention: all keys in one row, and a mask of blocks.

Which frames see which is known in advance, so the block mask is made from that, not by trying
tokens. Frames are not padded to whole blocks: a block on the border of frames is a partial one,
masked token by token. At the released size that is a sixth of the blocks, and 9 % more is computed
than is seen. Keys and values are copied once, not once for every frame that sees them.

Shape legend: B batch, T query frames, S key frames, N tokens a frame, J memory frames, M tokens a
memory frame, F = S + J.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hydra_model.fast.compiling import compiled

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from hydra_model.fast.attention import Retrieval

BLOCK = 128


def retrieval_attention(at: Retrieval) -> Tensor:
    """Return ``[B, T, N, H, D]``."""
    query = at.query.flatten(1, 2).transpose(1, 2)
    key, value = (
        torch.cat((local.flatten(1, 2), memory.flatten(1, 2)), dim=1).transpose(1, 2)
        for local, memory in ((at.key, at.memory_key), (at.value, at.memory_value))
    )
    out = _attention()(query, key, value, block_mask=block_mask(at))
    return out.transpose(1, 2).reshape(at.query.shape)


@functools.cache
def _attention() -> Any:
    # Not at the top: the import takes as long as a small model's forward.
    from torch.nn.attention.flex_attention import flex_attention

    return compiled(flex_attention)


def block_mask(at: Retrieval, block: int = BLOCK) -> BlockMask:
    """Return which blocks of keys each block of queries reads, whole or token by token."""
    from torch.nn.attention.flex_attention import BlockMask

    allowed = visible_frames(at)
    tokens, frames = at.query.shape[2], at.key.shape[1]
    memories, memory_tokens = at.memory_key.shape[1:3]
    queries, local = at.query.shape[1] * tokens, frames * tokens
    keys = local + memories * memory_tokens
    device = at.query.device
    query_frame = torch.arange(queries, device=device) // tokens
    position = torch.arange(keys, device=device)
    key_frame = torch.where(
        position < local, position // tokens, frames + (position - local) // memory_tokens
    )

    def mask(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return allowed[b, query_frame[q], key_frame[k]]

    rows = _held(query_frame, allowed.shape[1], block)
    columns = _held(key_frame, allowed.shape[2], block)
    seen = rows @ allowed.float() @ columns.T  # [B, blocks, blocks], pairs of frames that see
    some, every = seen > 0, seen == rows.sum(1)[:, None] * columns.sum(1)
    every[:, :, keys // block :] = False  # the last block may be a part of one
    every[:, queries // block :] = False
    return BlockMask.from_kv_blocks(
        *_listed(some & ~every), *_listed(every),
        BLOCK_SIZE=block, mask_mod=mask, seq_lengths=(queries, keys),
    )  # fmt: skip


def visible_frames(at: Retrieval) -> Tensor:
    """Return bool ``[B, T, F]``: the window's frames and the selected memory frames."""
    batch, count = at.query.shape[:2]
    frames = at.key.shape[1]
    shape = (batch, count, frames + at.memory_key.shape[1])
    allowed = torch.zeros(shape, dtype=torch.bool, device=at.query.device)
    allowed.scatter_(2, at.windows[None].expand(batch, -1, -1), True)
    return allowed.scatter_(2, at.selected + frames, True)


def _held(frame: Tensor, frames: int, block: int) -> Tensor:
    """Return ``[blocks, frames]``: 1 where a block holds tokens of a frame."""
    places = torch.arange(len(frame), device=frame.device) // block
    held = torch.zeros(-(-len(frame) // block), frames, device=frame.device)
    return held.index_put_((places, frame), held.new_ones(()))


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many blocks ``[B, 1, rows, columns]`` has in each row, and which, those first."""
    order = chosen.int().argsort(dim=-1, descending=True, stable=True).int()
    return chosen.sum(-1, dtype=torch.int32)[:, None], order[:, None]
