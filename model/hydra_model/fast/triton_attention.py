# SPDX-License-Identifier: Apache-2.0
"""Retrieval attention in one Triton kernel that reads windows and memory where they lie.

A program holds one tile of a query frame's tokens and one head, and walks over the keys twice:
through the frames of the local window, which follow each other in memory, then through the
selected memory frames, whose rows are found by the selection. One softmax runs through both.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def absorb(query, key, value, seen, scale, best, total, out, PRECISION: tl.constexpr):
    """Take a tile of keys and values into the running softmax."""
    score = tl.dot(query, tl.trans(key), input_precision=PRECISION) * scale
    score = tl.where(seen[None, :], score, -float("inf"))
    higher = tl.maximum(best, tl.max(score, 1))
    weight = tl.exp2(score - higher[:, None])
    fade = tl.exp2(best - higher)
    total = total * fade + tl.sum(weight, 1)
    out = out * fade[:, None]
    out = tl.dot(weight.to(value.dtype), value, out, input_precision=PRECISION)
    return higher, total, out


@triton.jit
def _attend(
    query, key, value, memory_key, memory_value, selected, windows, out,
    frames, tokens, heads, chosen, window_stride, scale,
    query_batch, key_batch, key_row, value_batch, value_row,
    memory_key_batch, memory_key_row, memory_value_batch, memory_value_row,
    window_tokens: tl.constexpr, far_tokens: tl.constexpr, memory_tokens: tl.constexpr,
    CHANNELS: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    unit = tl.program_id(1)  # tiles of one frame and head are neighbours: they share their keys
    head = unit % heads
    frame = (unit // heads) % frames
    batch = (unit // heads // frames).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    row = tile * QUERIES + tl.arange(0, QUERIES)
    width = heads * CHANNELS
    place = batch * query_batch + (frame * tokens + row)[:, None].to(tl.int64) * width
    place += head * CHANNELS + channel[None, :]
    own = tl.load(query + place, mask=row[:, None] < tokens, other=0.0)
    best = tl.full((QUERIES,), -1.0e30, tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    result = tl.zeros((QUERIES, CHANNELS), tl.float32)
    lane = tl.arange(0, KEYS)
    first = tl.load(windows + frame * window_stride).to(tl.int64) * tokens

    keys = key + batch * key_batch + head * CHANNELS + channel[None, :]
    values = value + batch * value_batch + head * CHANNELS + channel[None, :]
    for start in range(0, window_tokens, KEYS):
        seen = start + lane < window_tokens
        source = (first + start + lane)[:, None]
        k = tl.load(keys + source * key_row, mask=seen[:, None], other=0.0)
        v = tl.load(values + source * value_row, mask=seen[:, None], other=0.0)
        best, total, result = absorb(own, k, v, seen, scale, best, total, result, PRECISION)

    keys = memory_key + batch * memory_key_batch + head * CHANNELS + channel[None, :]
    values = memory_value + batch * memory_value_batch + head * CHANNELS + channel[None, :]
    choice = selected + (batch * frames + frame) * chosen
    for start in range(0, far_tokens, KEYS):
        index = start + lane
        seen = index < far_tokens
        memory = tl.load(choice + index // memory_tokens, mask=seen, other=0).to(tl.int64)
        source = (memory * memory_tokens + index % memory_tokens)[:, None]
        k = tl.load(keys + source * memory_key_row, mask=seen[:, None], other=0.0)
        v = tl.load(values + source * memory_value_row, mask=seen[:, None], other=0.0)
        best, total, result = absorb(own, k, v, seen, scale, best, total, result, PRECISION)

    result = result / total[:, None]
    tl.store(out + place, result.to(out.dtype.element_ty), mask=row[:, None] < tokens)


def retrieval_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    selected: Tensor,
    windows: Tensor,
    *,
    queries: int = 128,
    keys: int = 64,
    warps: int = 8,
    stages: int = 3,
) -> Tensor:
    """Attend as ``hydra_model.fast.attention.Retrieval`` says."""
    batch, frames, tokens, heads, channels = query.shape
    memory_tokens, chosen = memory_key.shape[2], selected.shape[-1]
    if channels < 16 or channels & (channels - 1):
        raise ValueError(f"heads of {channels} channels; the kernel takes powers of two from 16")
    query = query.contiguous()
    out = torch.empty_like(query)
    for part, size in ((key, tokens), (value, tokens), (memory_key, memory_tokens),
                       (memory_value, memory_tokens)):  # fmt: skip
        assert part.stride(1) == size * part.stride(2) and part.stride(3) == channels
    _attend[(triton.cdiv(tokens, queries), batch * frames * heads)](
        query, key, value, memory_key, memory_value, selected.contiguous(), windows, out,
        frames, tokens, heads, chosen, windows.stride(0),
        math.log2(math.e) / math.sqrt(channels),
        query.stride(0), key.stride(0), key.stride(2), value.stride(0), value.stride(2),
        memory_key.stride(0), memory_key.stride(2), memory_value.stride(0), memory_value.stride(2),
        window_tokens=windows.shape[1] * tokens, far_tokens=chosen * memory_tokens,
        memory_tokens=memory_tokens, CHANNELS=channels, QUERIES=queries, KEYS=keys,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out
