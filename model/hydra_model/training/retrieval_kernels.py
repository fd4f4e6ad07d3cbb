# SPDX-License-Identifier: Apache-2.0
"""Retrieval attention with gradients, in Triton kernels that read every frame where it lies.

The readable form copies the keys and values of 13 frames for each of 20, and adds up as many
gradients: at the default model's size a third of a training step. Here three kernels walk over
lists of frames instead: forwards and for the queries' gradients over the frames that a query frame
sees, for the gradients of keys and values over the query frames that see one. Scores are computed
again on the way back, as in FlashAttention.

Shape legend: B batch, T query frames, S key frames, N tokens a frame, H heads, D channels a head,
L key frames that each query frame sees.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from hydra_model.fast.triton_attention import absorb

TILE = 64  # tokens of a tile; a frame of the default model has 60


@triton.jit
def _rows(first, start, tokens, heads, head, TILE: tl.constexpr, CHANNELS: tl.constexpr):
    """Return places ``[TILE, CHANNELS]`` of a tile of a frame's rows, and which there are."""
    row = start + tl.arange(0, TILE)
    there = row < tokens
    place = (first * tokens + row).to(tl.int64)[:, None] * (heads * CHANNELS)
    return place + head * CHANNELS + tl.arange(0, CHANNELS)[None, :], there, row


@triton.jit
def _keys(
    key, value, source, start, tokens, heads, head, TILE: tl.constexpr, CHANNELS: tl.constexpr
):
    """Load a tile of a frame's keys and values; also return which of its rows there are."""
    place, there, _ = _rows(source, start, tokens, heads, head, TILE, CHANNELS)
    k = tl.load(key + place, mask=there[:, None], other=0.0)
    v = tl.load(value + place, mask=there[:, None], other=0.0)
    return k, v, there


@triton.jit
def _forward(
    query, key, value, index, out, weight, frames, key_frames, tokens, heads, seen_frames, scale,
    TILE: tl.constexpr, CHANNELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    unit = tl.program_id(1)
    head, frame, batch = unit % heads, unit // heads, unit // heads // frames
    place, there, row = _rows(frame, tl.program_id(0) * TILE, tokens, heads, head, TILE, CHANNELS)
    own = tl.load(query + place, mask=there[:, None], other=0.0)
    best = tl.full((TILE,), -1.0e30, tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    result = tl.zeros((TILE, CHANNELS), tl.float32)
    for number in range(seen_frames):
        source = batch * key_frames + tl.load(index + frame * seen_frames + number).to(tl.int32)
        for start in range(0, tokens, TILE):
            k, v, known = _keys(key, value, source, start, tokens, heads, head, TILE, CHANNELS)
            best, total, result = absorb(own, k, v, known, scale, best, total, result, PRECISION)
    result = result / total[:, None]
    tl.store(out + place, result.to(out.dtype.element_ty), mask=there[:, None])
    tl.store(weight + unit * tokens + row, best + tl.log2(total), mask=there)


@triton.jit
def _backward_query(
    query, key, value, index, out, weight, grad, share, grad_query,
    frames, key_frames, tokens, heads, seen_frames, scale,
    TILE: tl.constexpr, CHANNELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    unit = tl.program_id(1)
    head, frame, batch = unit % heads, unit // heads, unit // heads // frames
    place, there, row = _rows(frame, tl.program_id(0) * TILE, tokens, heads, head, TILE, CHANNELS)
    own = tl.load(query + place, mask=there[:, None], other=0.0)
    outer = tl.load(grad + place, mask=there[:, None], other=0.0)
    told = tl.load(out + place, mask=there[:, None], other=0.0)
    mean = tl.sum(outer.to(tl.float32) * told.to(tl.float32), 1)
    tl.store(share + unit * tokens + row, mean, mask=there)
    norm = tl.load(weight + unit * tokens + row, mask=there, other=float("inf"))
    result = tl.zeros((TILE, CHANNELS), tl.float32)
    for number in range(seen_frames):
        source = batch * key_frames + tl.load(index + frame * seen_frames + number).to(tl.int32)
        for start in range(0, tokens, TILE):
            k, v, known = _keys(key, value, source, start, tokens, heads, head, TILE, CHANNELS)
            score = tl.dot(own, tl.trans(k), input_precision=PRECISION) * scale
            part = tl.where(known[None, :], tl.exp2(score - norm[:, None]), 0.0)
            slope = tl.dot(outer, tl.trans(v), input_precision=PRECISION)
            slope = part * (slope - mean[:, None])
            result = tl.dot(slope.to(k.dtype), k, result, input_precision=PRECISION)
    result = result * (scale * 0.6931471805599453)
    tl.store(grad_query + place, result.to(grad_query.dtype.element_ty), mask=there[:, None])


@triton.jit
def _backward_keys(
    query, key, value, users, counts, weight, grad, share, grad_key, grad_value,
    frames, key_frames, tokens, heads, scale,
    TILE: tl.constexpr, CHANNELS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    unit = tl.program_id(1)
    head, source, batch = unit % heads, unit // heads, unit // heads // key_frames
    place, there, _ = _rows(source, tl.program_id(0) * TILE, tokens, heads, head, TILE, CHANNELS)
    k = tl.load(key + place, mask=there[:, None], other=0.0)
    v = tl.load(value + place, mask=there[:, None], other=0.0)
    slope_key = tl.zeros((TILE, CHANNELS), tl.float32)
    slope_value = tl.zeros((TILE, CHANNELS), tl.float32)
    for number in range(tl.load(counts + source)):
        frame = batch * frames + tl.load(users + source * frames + number).to(tl.int32)
        for start in range(0, tokens, TILE):
            at, known, row = _rows(frame, start, tokens, heads, head, TILE, CHANNELS)
            own = tl.load(query + at, mask=known[:, None], other=0.0)
            outer = tl.load(grad + at, mask=known[:, None], other=0.0)
            row += (frame * heads + head) * tokens
            norm = tl.load(weight + row, mask=known, other=float("inf"))
            mean = tl.load(share + row, mask=known, other=0.0)
            score = tl.dot(k, tl.trans(own), input_precision=PRECISION) * scale
            part = tl.exp2(score - norm[None, :])
            slope_value = tl.dot(part.to(v.dtype), outer, slope_value, input_precision=PRECISION)
            slope = tl.dot(v, tl.trans(outer), input_precision=PRECISION)
            slope = part * (slope - mean[None, :])
            slope_key = tl.dot(slope.to(k.dtype), own, slope_key, input_precision=PRECISION)
    slope_key = slope_key * (scale * 0.6931471805599453)
    tl.store(grad_key + place, slope_key.to(grad_key.dtype.element_ty), mask=there[:, None])
    tl.store(grad_value + place, slope_value.to(grad_value.dtype.element_ty), mask=there[:, None])


def _sizes(query: Tensor) -> dict[str, Any]:
    channels = query.shape[-1]
    if channels < 16 or channels & (channels - 1):
        raise ValueError(f"heads of {channels} channels; the kernels take powers of two from 16")
    return {
        "scale": math.log2(math.e) / math.sqrt(channels), "TILE": TILE, "CHANNELS": channels,
        "PRECISION": "ieee" if query.dtype == torch.float32 else "tf32", "num_warps": 4,
    }  # fmt: skip


# Custom operators, because a compiler can neither look into them nor take them apart.
@torch.library.custom_op(
    "hydra_model::attend_frames",
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor value, Tensor index) -> (Tensor, Tensor)",
)
def attend_frames(
    query: Tensor, key: Tensor, value: Tensor, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Attend from each frame to the frames ``index [B, T, L]`` of the keys, in one softmax.

    ``query [B, T, N, H, D]`` and ``key, value [B, S, N, H, D]`` of one type. Returns what is
    attended, like ``query``, and the base-2 logarithms of the weights' sums, ``[B, T, H, N]``.
    """
    batch, frames, tokens, heads, _ = query.shape
    query, key, value, index = (t.contiguous() for t in (query, key, value, index))
    out = torch.empty_like(query)
    weight = query.new_empty((batch, frames, heads, tokens), dtype=torch.float32)
    _forward[(triton.cdiv(tokens, TILE), batch * frames * heads)](
        query, key, value, index, out, weight,
        frames, key.shape[1], tokens, heads, index.shape[-1], **_sizes(query),
    )  # fmt: skip
    return out, weight


@attend_frames.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    batch, frames, tokens, heads, _ = query.shape
    weight = query.new_empty((batch, frames, heads, tokens), dtype=torch.float32)
    return query.new_empty(query.shape), weight


@torch.library.custom_op(
    "hydra_model::attend_frames_backward",
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor value, Tensor index, Tensor out, Tensor weight, "
    "Tensor grad) -> (Tensor, Tensor, Tensor)",
)
def attend_frames_backward(
    query: Tensor, key: Tensor, value: Tensor, index: Tensor, out: Tensor, weight: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of query, key and value."""
    batch, frames, tokens, heads, _ = query.shape
    key_frames = key.shape[1]
    query, key, value, index, grad = (
        t.contiguous() for t in (query, key, value, index, grad.to(query.dtype))
    )
    grads = tuple(torch.empty_like(t) for t in (query, key, value))
    share = torch.empty_like(weight)
    tiles = triton.cdiv(tokens, TILE)
    _backward_query[(tiles, batch * frames * heads)](
        query, key, value, index, out, weight, grad, share, grads[0],
        frames, key_frames, tokens, heads, index.shape[-1], **_sizes(query),
    )  # fmt: skip
    sees = F.one_hot(index, key_frames).amax(2).transpose(1, 2).contiguous()  # [B, S, T]
    users = sees.sort(dim=-1, descending=True, stable=True).indices.int()
    _backward_keys[(tiles, batch * key_frames * heads)](
        query, key, value, users, sees.sum(-1).int(), weight, grad, share, *grads[1:],
        frames, key_frames, tokens, heads, **_sizes(query),
    )  # fmt: skip
    return grads[0], grads[1], grads[2]


@attend_frames_backward.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, index: Tensor, out: Tensor, weight: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    a, b, c = (t.new_empty(t.shape) for t in (query, key, value))
    return a, b, c


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return (*attend_frames_backward(*ctx.saved_tensors, grad), None)


attend_frames.register_autograd(_backward, setup_context=_keep)


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
    """As ``hydra_model.attention.retrieval_attention``, where memory frames have N tokens too.

    Computed in the values' type.
    """
    if valid is not None or memory_key.shape[2] != key.shape[2]:
        raise ValueError("the kernels take whole selections and memory tokens as many as tokens")
    dtype = value.dtype
    frames = key.shape[1]
    local = window[None].expand(query.shape[0], -1, -1)
    index = torch.cat((local, selected + frames), dim=-1)
    parts = (
        query,
        torch.cat((key.to(dtype), memory_key.to(dtype)), dim=1),
        torch.cat((value, memory_value.to(dtype)), dim=1),
    )
    out, _ = attend_frames(*(t.to(dtype).unflatten(-1, (heads, -1)) for t in parts), index)
    return out.flatten(-2)
