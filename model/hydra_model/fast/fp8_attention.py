# SPDX-License-Identifier: Apache-2.0
"""Retrieval attention in 8 bits (E4M3), in one Triton kernel that gathers nothing.

Keys and values are rounded once a block, into tiles of ``keys`` tokens of one head that lie in
memory as the tensor cores want them: keys ``[keys, D]``, values ``[D, keys]``. A query frame then
walks a list of tiles: those of its window, those of the memory frames it selected, and last one
or two tiles of its own that hold what was left over of all these frames (1,560 = 12 * 128 + 24 and
390 = 3 * 128 + 6 at the released size), so that hardly any padding is computed.

How values are scaled, and why that is enough for three bits of mantissa:

- keys have their mean over the tokens taken off, which changes all scores of a query by the same
  and so leaves the softmax as it was (SageAttention, arXiv 2410.02367); then a scale per tile.
- queries: a scale per row, made when the kernel loads them.
- weights of the softmax lie between 0 and 1 and are stored times 256: exact where one key has all.
- values: a scale per channel, which leaves the sum over tokens as a factor.

The first product leaves a thread with other columns than the second one takes from it. Values are
stored in the order in which the thread has its columns, so that none has to be sent.

Shape legend: B batch, T query frames, S key frames, N tokens a frame, J memory frames, M tokens a
memory frame, H heads, D channels a head, W window, K selected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from hydra_model.fast.products import FP8, FP8_MAX, Quantised

GROUP = 16  # columns within which values are stored in another order


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How the kernel cuts its work: tokens a tile, warps, stages of loads in flight.

    ``rest`` computes the queries that do not fill a tile of ``queries`` in tiles of half of it.
    ``exact_sums`` adds each tile's product in float32; the tensor cores by themselves keep about
    14 bits. ``descriptors`` loads tiles by the tensor memory unit. ``registers`` bounds what a
    thread may have, for more programs at a time; 0 leaves it to the compiler.
    """

    queries: int = 128
    keys: int = 128
    warps: int = 8
    stages: int = 2
    rest: bool = False
    exact_sums: bool = True
    descriptors: bool = True
    registers: int = 0


@triton.jit
def _sources(
    tile, lane, frame_tiles, memory_tiles, near_tiles, far_tiles, rest_tiles,
    near_rest, far_rest, frames, tokens, memory_tokens, window, chosen, windows, selected, batch,
    KEYS: tl.constexpr,
):  # fmt: skip
    """Return rows of the frames' and of the memory's tokens, and which lanes have either."""
    own = tile - near_tiles - far_tiles
    frame = tl.maximum(own, 0) // rest_tiles
    index = (tl.maximum(own, 0) % rest_tiles) * KEYS + lane
    near_count, far_count = window * near_rest, chosen * far_rest
    is_rest, is_near = own >= 0, tile < near_tiles
    near_step, far_step = tl.maximum(near_rest, 1), tl.maximum(far_rest, 1)
    left_near = is_rest & (index < near_count)
    left_far = is_rest & (index >= near_count) & (index < near_count + far_count)
    near_frame = tl.load(windows + frame * window + index // near_step, mask=left_near, other=0)
    beyond = index - near_count
    far_frame = tl.load(
        selected + (batch * frames + frame) * chosen + beyond // far_step, mask=left_far, other=0
    )
    near_row = tl.where(
        is_rest,
        near_frame * tokens + frame_tiles * KEYS + index % near_step,
        tile // tl.maximum(frame_tiles, 1) * tokens
        + tile % tl.maximum(frame_tiles, 1) * KEYS + lane,
    )  # fmt: skip
    far = tile - near_tiles
    far_row = tl.where(
        is_rest,
        far_frame * memory_tokens + memory_tiles * KEYS + beyond % far_step,
        far // tl.maximum(memory_tiles, 1) * memory_tokens
        + far % tl.maximum(memory_tiles, 1) * KEYS + lane,
    )  # fmt: skip
    near_seen = left_near | ((lane >= 0) & is_near)
    far_seen = left_far | ((lane >= 0) & (not is_rest) & (not is_near))
    return near_row.to(tl.int64), near_seen, far_row.to(tl.int64), far_seen


@triton.jit
def _either(frames, frames_row, near_row, near, memory, memory_row, far_row, far):
    """Load each lane's token, from the frames or from the memory, as float32; else zeros."""
    own = tl.load(frames + near_row[:, None] * frames_row, mask=near[:, None], other=0.0)
    other = tl.load(memory + far_row[:, None] * memory_row, mask=far[:, None], other=0.0)
    return own.to(tl.float32) + other.to(tl.float32)


@triton.jit
def _pack(
    key, value, memory_key, memory_value, mean, value_scale, windows, selected,
    tiled_key, tiled_value, key_scale,
    key_batch, key_row, value_batch, value_row,
    memory_key_batch, memory_key_row, memory_value_batch, memory_value_row,
    frame_tiles, memory_tiles, near_tiles, far_tiles, rest_tiles, near_rest, far_rest,
    frames, tokens, memory_tokens, window, chosen,
    KEYS: tl.constexpr, CHANNELS: tl.constexpr, LIMIT: tl.constexpr, GROUPED: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    head = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    heads = tl.num_programs(1)
    channel = tl.arange(0, CHANNELS)[None, :]
    lane = tl.arange(0, KEYS)
    unit = batch * heads + head
    place = unit * tl.num_programs(0) + tile
    column = head * CHANNELS + channel
    near_row, near, far_row, far = _sources(
        tile, lane, frame_tiles, memory_tiles, near_tiles, far_tiles, rest_tiles, near_rest,
        far_rest, frames, tokens, memory_tokens, window, chosen, windows, selected, batch, KEYS,
    )  # fmt: skip
    k = _either(
        key + batch * key_batch + column, key_row, near_row, near,
        memory_key + batch * memory_key_batch + column, memory_key_row, far_row, far,
    )  # fmt: skip
    k -= tl.load(mean + unit * CHANNELS + channel)
    k = tl.where((near | far)[:, None], k, 0.0)
    scale = tl.maximum(tl.max(tl.max(tl.abs(k), 1), 0), 1e-12) / LIMIT
    rows = lane[:, None] * CHANNELS + channel
    tl.store(
        tiled_key + place * (KEYS * CHANNELS) + rows,
        (k / scale).to(tiled_key.dtype.element_ty),
    )
    tl.store(key_scale + place, scale)

    order = lane
    if GROUPED:  # the position 4 t + 2 j + e of a group holds the token 8 j + 2 t + e
        order = lane // 16 * 16 + lane // 2 % 2 * 8 + lane // 4 % 4 * 2 + lane % 2
    near_row, near, far_row, far = _sources(
        tile, order, frame_tiles, memory_tiles, near_tiles, far_tiles, rest_tiles, near_rest,
        far_rest, frames, tokens, memory_tokens, window, chosen, windows, selected, batch, KEYS,
    )  # fmt: skip
    v = _either(
        value + batch * value_batch + column, value_row, near_row, near,
        memory_value + batch * memory_value_batch + column, memory_value_row, far_row, far,
    )  # fmt: skip
    v /= tl.load(value_scale + unit * CHANNELS + channel)
    v = tl.minimum(tl.maximum(v, -LIMIT), LIMIT)
    columns = tl.arange(0, CHANNELS)[:, None] * KEYS + lane[None, :]
    tl.store(
        tiled_value + place * (KEYS * CHANNELS) + columns,
        tl.trans(v).to(tiled_value.dtype.element_ty),
    )


@triton.jit
def _absorb(
    query, query_scale, key, value, key_scale, best, total, out, seen,
    MASKED: tl.constexpr, EXACT_SUMS: tl.constexpr, GROUPED: tl.constexpr, IMPRECISE: tl.constexpr,
):  # fmt: skip
    """Take a tile into the running softmax."""
    rows: tl.constexpr = query.shape[0]
    columns: tl.constexpr = key.shape[0]
    score = tl.dot(query, tl.trans(key), out_dtype=tl.float32)
    if MASKED:
        score = tl.where(seen[None, :], score, -float("inf"))
    factor = query_scale * key_scale
    higher = tl.maximum(best, tl.max(score, 1) * factor)
    weight = tl.exp2(score * factor[:, None] - (higher - 8.0)[:, None])  # times 256
    fade = tl.exp2(best - higher)
    total = total * fade + tl.sum(weight, 1)
    narrow = weight.to(value.dtype)
    if GROUPED:
        narrow = tl.reshape(narrow, (rows, columns // 16, 2, 4, 2))
        narrow = tl.reshape(tl.permute(narrow, (0, 1, 3, 2, 4)), (rows, columns))
    if EXACT_SUMS:
        out = out * fade[:, None] + tl.dot(narrow, tl.trans(value), out_dtype=tl.float32)
    else:
        out = tl.dot(
            narrow, tl.trans(value), out * fade[:, None], max_num_imprecise_acc=IMPRECISE,
            out_dtype=tl.float32,
        )  # fmt: skip
    return higher, total, out


@triton.jit
def _attend(
    query, tiled_key, tiled_value, key_scale, value_scale, table, out, out_scale,
    first_row, frames, tokens, heads, query_batch, scale, tiles, last_seen,
    COUNT: tl.constexpr, CHANNELS: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
    STAGES: tl.constexpr, DESCRIPTORS: tl.constexpr, EXACT_SUMS: tl.constexpr,
    GROUPED: tl.constexpr, NARROW_OUT: tl.constexpr, LIMIT: tl.constexpr,
    IMPRECISE: tl.constexpr,
):  # fmt: skip
    # Tiles of one frame and head, then frames of one head, are neighbours: they share their keys.
    unit = tl.program_id(1)
    frame = unit % frames
    head = unit // frames % heads
    batch = (unit // frames // heads).to(tl.int64)
    channel = tl.arange(0, CHANNELS)
    row = first_row + tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    place = batch * query_batch + (frame * tokens + row)[:, None].to(tl.int64) * (heads * CHANNELS)
    place += head * CHANNELS + channel[None, :]
    wide = tl.load(query + place, mask=row[:, None] < tokens, other=0.0).to(tl.float32)
    query_scale = tl.maximum(tl.max(tl.abs(wide), 1), 1e-12) / LIMIT
    wide = wide / query_scale[:, None]
    if DESCRIPTORS:
        narrow = wide.to(tiled_key.dtype)
    else:
        narrow = wide.to(tiled_key.dtype.element_ty)
    query_scale *= scale

    own = (batch * heads + head).to(tl.int32)
    first_tile = own * tiles
    rows = table + (batch * frames + frame) * COUNT
    lane = tl.arange(0, KEYS)
    within_key = lane[:, None] * CHANNELS + channel[None, :]
    within_value = channel[:, None] * KEYS + lane[None, :]
    best = tl.full((QUERIES,), -1.0e30, tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    result = tl.zeros((QUERIES, CHANNELS), tl.float32)
    for i in tl.range(0, COUNT - 1, num_stages=STAGES):
        tile = first_tile + tl.load(rows + i)
        if DESCRIPTORS:
            k = tiled_key.load([tile * KEYS, 0])
            v = tiled_value.load([tile * CHANNELS, 0])
        else:
            start = tile.to(tl.int64) * (KEYS * CHANNELS)
            k = tl.load(tiled_key + start + within_key)
            v = tl.load(tiled_value + start + within_value)
        best, total, result = _absorb(
            narrow, query_scale, k, v, tl.load(key_scale + tile), best, total, result, lane,
            False, EXACT_SUMS, GROUPED, IMPRECISE,
        )  # fmt: skip
    tile = first_tile + tl.load(rows + COUNT - 1)
    if DESCRIPTORS:
        k = tiled_key.load([tile * KEYS, 0])
        v = tiled_value.load([tile * CHANNELS, 0])
    else:
        start = tile.to(tl.int64) * (KEYS * CHANNELS)
        k = tl.load(tiled_key + start + within_key)
        v = tl.load(tiled_value + start + within_value)
    best, total, result = _absorb(
        narrow, query_scale, k, v, tl.load(key_scale + tile), best, total, result,
        lane < last_seen, True, EXACT_SUMS, GROUPED, IMPRECISE,
    )  # fmt: skip
    factor = tl.load(value_scale + (batch * heads + head) * CHANNELS + channel)
    result = result / total[:, None] * factor[None, :]
    if NARROW_OUT:
        result = result / tl.load(out_scale + batch)
        result = tl.minimum(tl.maximum(result, -LIMIT), LIMIT)
        final = result.to(out.dtype.element_ty)
    else:
        final = result.to(out.dtype.element_ty)
    at = (batch * frames + frame) * tokens + row
    goal = at[:, None].to(tl.int64) * (heads * CHANNELS) + head * CHANNELS + channel[None, :]
    tl.store(out + goal, final, mask=row[:, None] < tokens)


@dataclass(frozen=True)
class Tiles:
    """Keys and values of all frames in 8 bits, tile by tile.

    ``key [B, H, tiles, keys, D]``, ``value [B, H, tiles, D, keys]``, ``key_scale [B, H, tiles]``,
    ``value_scale [B, H, D]``, ``table [B, T, count]`` the tiles that a query frame walks over;
    of the last one ``last_seen`` tokens count.
    """

    key: Tensor
    value: Tensor
    key_scale: Tensor
    value_scale: Tensor
    table: Tensor
    last_seen: int


def pack(
    key: Tensor,
    value: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    selected: Tensor,
    windows: Tensor,
    *,
    keys: int = 128,
) -> Tiles:
    """Round what ``hydra_model.fast.attention.Retrieval`` holds, into tiles of ``keys`` tokens."""
    batch, frames, tokens, heads, channels = key.shape
    memories, memory_tokens = memory_key.shape[1:3]
    queries, chosen = selected.shape[1:]
    window = windows.shape[1]
    frame_tiles, near_rest = divmod(tokens, keys)
    memory_tiles, far_rest = divmod(memory_tokens, keys)
    left = window * near_rest + chosen * far_rest
    rest_tiles = triton.cdiv(left, keys)
    near_tiles, far_tiles = frames * frame_tiles, memories * memory_tiles
    tiles = near_tiles + far_tiles + queries * rest_tiles
    device = key.device
    for part, size in ((key, tokens), (value, tokens), (memory_key, memory_tokens),
                       (memory_value, memory_tokens)):  # fmt: skip
        assert part.stride(1) == size * part.stride(2) and part.stride(3) == channels
    # Any vector will do as well as the mean: an eighth of the tokens gives one that is near.
    mean = key[:, :, ::8].mean((1, 2), dtype=torch.float32)
    largest = torch.maximum(*(_largest(part) for part in (value, memory_value)))
    value_scale = largest.clamp_min(1e-12) / FP8_MAX
    tiled_key = torch.empty((batch, heads, tiles, keys, channels), dtype=FP8, device=device)
    tiled_value = torch.empty((batch, heads, tiles, channels, keys), dtype=FP8, device=device)
    key_scale = torch.empty((batch, heads, tiles), dtype=torch.float32, device=device)
    selected, windows = selected.contiguous(), windows.contiguous()
    _pack[(tiles, heads, batch)](
        key, value, memory_key, memory_value, mean, value_scale, windows, selected,
        tiled_key, tiled_value, key_scale,
        key.stride(0), key.stride(2), value.stride(0), value.stride(2),
        memory_key.stride(0), memory_key.stride(2), memory_value.stride(0), memory_value.stride(2),
        frame_tiles, memory_tiles, near_tiles, far_tiles, max(rest_tiles, 1), near_rest, far_rest,
        queries, tokens, memory_tokens, window, chosen,
        KEYS=keys, CHANNELS=channels, LIMIT=FP8_MAX, GROUPED=keys % GROUP == 0, num_warps=8,
    )  # fmt: skip
    every = (batch, queries, -1)
    near = windows[..., None] * frame_tiles + torch.arange(frame_tiles, device=device)
    far = near_tiles + selected[..., None] * memory_tiles
    far = far + torch.arange(memory_tiles, device=device)
    rest = near_tiles + far_tiles + torch.arange(queries * rest_tiles, device=device)
    table = torch.cat(
        (
            near.reshape(1, queries, -1).expand(every),
            far.reshape(every),
            rest.view(1, queries, rest_tiles).expand(every),
        ),
        dim=-1,
    ).int()
    last = keys if left % keys == 0 else left % keys
    return Tiles(tiled_key, tiled_value, key_scale, value_scale, table, last)


def _largest(value: Tensor) -> Tensor:
    """Return each channel's largest magnitude in ``[B, S, N, H, D]``: float32 ``[B, H, D]``."""
    return torch.linalg.vector_norm(value, ord=math.inf, dim=(1, 2)).float()


def attend(
    query: Tensor, tiles: Tiles, tiling: Tiling, *, out_scale: Tensor | None = None
) -> Tensor:
    """Attend from ``query [B, T, N, H, D]``; with ``out_scale [B]`` the result is in 8 bits."""
    batch, frames, tokens, heads, channels = query.shape
    count = tiles.table.shape[-1]
    if channels < 32 or channels & (channels - 1):
        raise ValueError(f"heads of {channels} channels; the kernel takes powers of two from 32")
    assert tiles.key.shape[3] == tiling.keys
    query = query.contiguous()
    out = torch.empty_like(query, dtype=query.dtype if out_scale is None else FP8)
    key, value = tiles.key.view(-1, channels), tiles.value.view(-1, tiling.keys)
    operands = (key, value)
    if tiling.descriptors:
        operands = (
            TensorDescriptor.from_tensor(key, [tiling.keys, channels]),
            TensorDescriptor.from_tensor(value, [channels, tiling.keys]),
        )
    options = {} if not tiling.registers else {"maxnreg": tiling.registers}
    whole, rest = divmod(tokens, tiling.queries)
    launches = [(0, triton.cdiv(tokens, tiling.queries), tiling.queries, tiling.warps)]
    if tiling.rest and 0 < rest <= tiling.queries // 2 and tiling.queries >= 128:
        small = tiling.queries // 2
        launches = [(0, whole, tiling.queries, tiling.warps),
                    (whole * tiling.queries, 1, small, max(4, tiling.warps // 2))]  # fmt: skip
    for first, programs, queries, warps in launches:
        if not programs:
            continue
        _attend[(programs, batch * frames * heads)](
            query, *operands, tiles.key_scale, tiles.value_scale, tiles.table, out,
            tiles.key_scale if out_scale is None else out_scale,
            first, frames, tokens, heads, query.stride(0),
            math.log2(math.e) / math.sqrt(channels), tiles.key.shape[2], tiles.last_seen,
            COUNT=count, CHANNELS=channels, QUERIES=queries, KEYS=tiling.keys,
            STAGES=tiling.stages, DESCRIPTORS=tiling.descriptors, EXACT_SUMS=tiling.exact_sums,
            GROUPED=tiling.keys % GROUP == 0, NARROW_OUT=out_scale is not None, LIMIT=FP8_MAX,
            IMPRECISE=None, num_warps=warps, num_stages=tiling.stages, **options,
        )  # fmt: skip
    return out


def retrieval_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    selected: Tensor,
    windows: Tensor,
    tiling: Tiling = Tiling(),
    *,
    narrow: bool = False,
) -> Tensor | Quantised:
    """Attend as ``hydra_model.fast.attention.Retrieval`` says.

    Returns ``[B, T, N, H, D]``; with ``narrow`` rows ``[B, T, N, H * D]`` in 8 bits: an output is a
    mean of values, so that the largest value bounds it.
    """
    tiles = pack(key, value, memory_key, memory_value, selected, windows, keys=tiling.keys)
    if not narrow:
        return attend(query, tiles, tiling)
    out_scale = tiles.value_scale.amax((1, 2))
    out = attend(query, tiles, tiling, out_scale=out_scale).flatten(-2)
    scales = out_scale.view(-1, 1, 1, 1).expand(*out.shape[:-1], 1).contiguous()
    return Quantised(out, scales)
