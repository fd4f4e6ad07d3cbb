# SPDX-License-Identifier: Apache-2.0
"""The passes of ``hydra_model.fast.passes`` as Triton kernels, one program for a few rows.

Each reads its inputs once and writes its outputs once (``text_weights`` reads its queries twice);
a row (the width, 1536 at full size) stays in registers between. Arguments and results as there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hydra_model.fast.products import FP8, FP8_MAX, Quantised

# Rows a program takes one after another, of ``add_norm``, of ``merge``, and of
# ``normalise_rotate``, whose rows share a partial mean.
NORM_ROWS, MERGE_ROWS, ROWS = 8, 4, 16
STAGES = 4  # rows on their way at a time, where there are norms
TEXT_ROWS = 64  # queries a program of ``text_weights`` takes at once


@triton.jit
def _add_norm(
    x_in, branch, gate, scale, bias, lag, x_out, y_out, narrow_out, narrow_scales, lengths,
    width, tokens, frames, tokens_bias, gate_stride, scale_stride, bias_batch, bias_frame, eps,
    HAS_BRANCH: tl.constexpr, HAS_GATE: tl.constexpr, HAS_LAG: tl.constexpr,
    BY_TOKEN: tl.constexpr, WIDE: tl.constexpr, NARROW: tl.constexpr, LIMIT: tl.constexpr,
    ROWS: tl.constexpr, STAGES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    frame = tl.program_id(1).to(tl.int64)  # counted through the batch
    batch = frame // frames
    column = tl.arange(0, BLOCK)
    wide = column < width
    # Three rows of float32, which are more than a row of x: they stay for all rows.
    factor = tl.load(scale + batch * scale_stride + column, mask=wide, other=0.0).to(tl.float32)
    place = bias + batch * bias_batch + (frame % frames) * bias_frame + column
    if not BY_TOKEN:
        offset = tl.load(place, mask=wide, other=0.0).to(tl.float32)
    if HAS_LAG:
        late = tl.load(lag + column, mask=wide, other=0.0)
    if HAS_GATE:
        share = tl.load(gate + batch * gate_stride + column, mask=wide, other=0.0).to(tl.float32)
    for i in tl.range(ROWS, num_stages=STAGES):
        token = tl.program_id(0) * ROWS + i
        inside = wide & (token < tokens)
        row = frame * tokens + token
        x = tl.load(x_in + row * width + column, mask=inside, other=0.0).to(tl.float32)
        if HAS_BRANCH:
            own = tl.load(branch + row * width + column, mask=inside, other=0.0).to(tl.float32)
            if HAS_GATE:
                own *= share
            narrow = (x + own).to(x_out.dtype.element_ty)
            tl.store(x_out + row * width + column, narrow, mask=inside)
            x = narrow.to(tl.float32)
        if HAS_LAG:
            x += late
        mean = tl.sum(x, 0) / width
        centred = tl.where(wide, x - mean, 0.0)
        deviation = tl.rsqrt(tl.sum(centred * centred, 0) / width + eps)
        if BY_TOKEN:
            offset = tl.load(place + token * tokens_bias, mask=inside, other=0.0).to(tl.float32)
        y = centred * deviation * factor + offset
        if WIDE:
            tl.store(y_out + row * width + column, y.to(y_out.dtype.element_ty), mask=inside)
        if NARROW:
            y = tl.where(wide, y, 0.0)
            own_scale = tl.maximum(tl.max(tl.abs(y), 0), 1e-12) / LIMIT
            target = narrow_out + row * width + column
            tl.store(target, (y / own_scale).to(narrow_out.dtype.element_ty), mask=inside)
            tl.store(narrow_scales + row, own_scale, mask=token < tokens)
            tl.store(lengths + row, tl.sqrt(tl.sum(y * y, 0)), mask=token < tokens)


def add_norm(
    x: Tensor, branch: Tensor | None, gate: Tensor | None, scale: Tensor, bias: Tensor,
    eps: float, lag: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See ``passes.add_norm``; ``x``, ``branch`` and ``lag`` are contiguous."""
    y = torch.empty_like(x)
    return _launch_add_norm(x, branch, gate, scale, bias, eps, lag, y, None), y


def add_norm_quantised(
    x: Tensor, branch: Tensor | None, gate: Tensor | None, scale: Tensor, bias: Tensor,
    eps: float, lag: Tensor | None = None, *, keep: bool = False,
) -> tuple[Tensor, Tensor | None, Quantised]:  # fmt: skip
    """See ``passes.add_norm_quantised``; ``x``, ``branch`` and ``lag`` are contiguous."""
    y = torch.empty_like(x) if keep else None
    rows = Quantised(
        torch.empty_like(x, dtype=FP8),
        *(x.new_empty((*x.shape[:-1], 1), dtype=torch.float32) for _ in range(2)),
    )
    return _launch_add_norm(x, branch, gate, scale, bias, eps, lag, y, rows), y, rows


def _launch_add_norm(
    x: Tensor, branch: Tensor | None, gate: Tensor | None, scale: Tensor, bias: Tensor,
    eps: float, lag: Tensor | None, y: Tensor | None, rows: Quantised | None,
) -> Tensor:  # fmt: skip
    batch, frames, tokens, width = x.shape
    out = x if branch is None else torch.empty_like(x)

    def stride(t: Tensor, axis: int) -> int:
        return t.stride(axis) if t.shape[axis] > 1 else 0

    _add_norm[(triton.cdiv(tokens, NORM_ROWS), batch * frames)](
        x, x if branch is None else branch, x if gate is None else gate, scale, bias,
        x if lag is None else lag, out, x if y is None else y,
        *((x, x, x) if rows is None else rows),
        width, tokens, frames, stride(bias, 2), 0 if gate is None else stride(gate, 0),
        stride(scale, 0), stride(bias, 0), stride(bias, 1), eps,
        HAS_BRANCH=branch is not None, HAS_GATE=gate is not None, HAS_LAG=lag is not None,
        BY_TOKEN=bias.shape[2] > 1, WIDE=y is not None, NARROW=rows is not None, LIMIT=FP8_MAX,
        ROWS=NORM_ROWS, STAGES=STAGES, BLOCK=triton.next_power_of_2(width), num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _quantise(
    x_in, out, scales, width, GELU: tl.constexpr, LIMIT: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    highest = tl.full((BLOCK,), 0.0, tl.float32)
    for start in range(0, width, BLOCK):
        inside = start + column < width
        x = tl.load(x_in + row * width + start + column, mask=inside, other=0.0).to(tl.float32)
        # GELU rises from -0.75 on and is above -0.17 before: the largest input tells its size.
        highest = tl.maximum(highest, x if GELU else tl.abs(x))
    largest = tl.max(highest, 0)
    if GELU:
        largest = tl.maximum(_gelu(largest), 0.171)
    scale = tl.maximum(largest, 1e-12) / LIMIT
    tl.store(scales + row, scale)
    for start in range(0, width, BLOCK):  # a row is in the cache still
        inside = start + column < width
        x = tl.load(x_in + row * width + start + column, mask=inside, other=0.0).to(tl.float32)
        if GELU:
            x = _gelu(x)
        y = tl.minimum(tl.maximum(x / scale, -LIMIT), LIMIT)
        place = out + row * width + start + column
        tl.store(place, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gelu(x):
    # 1 + tanh(u) is 2 / (1 + exp(-2 u)).
    return x / (1 + tl.exp2(-2.302208198 * (x + 0.044715 * x * x * x)))


def quantise(x: Tensor) -> Quantised:
    """See ``products.quantise``."""
    return _narrowed(x, gelu=False)


def gelu_quantised(x: Tensor) -> Quantised:
    """See ``passes.gelu_quantised``."""
    return _narrowed(x, gelu=True)


def _narrowed(x: Tensor, *, gelu: bool) -> Quantised:
    x = x.contiguous()
    width = x.shape[-1]
    out = torch.empty_like(x, dtype=FP8)
    scales = x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)
    block = min(2048, triton.next_power_of_2(width))
    _quantise[(x.numel() // width,)](
        x, out, scales, width, GELU=gelu, LIMIT=FP8_MAX, BLOCK=block, num_warps=8
    )
    return Quantised(out, scales)


@triton.jit
def _normalise_rotate(
    x_in, gain, cosine, sine, out, partial,
    tokens, frames, row_stride, batch_stride, heads, eps, MEAN: tl.constexpr,
    ROWS: tl.constexpr, STAGES: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
    PAIRS: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    frame = tl.program_id(1).to(tl.int64)  # counted through the batch
    own = frame % frames
    width = heads * PAIRS * 2
    head, pair = tl.arange(0, HEADS)[:, None], tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (pair < PAIRS)
    column = head * (2 * PAIRS) + pair
    gain_first = tl.load(gain + column, mask=inside, other=0.0).to(tl.float32)
    gain_second = tl.load(gain + column + PAIRS, mask=inside, other=0.0).to(tl.float32)
    sum_first = tl.zeros((HEADS, HALF), tl.float32)
    sum_second = tl.zeros((HEADS, HALF), tl.float32)
    start = x_in + (frame // frames) * batch_stride + own * tokens * row_stride
    for i in tl.range(ROWS, num_stages=STAGES):
        token = chunk * ROWS + i
        real = inside & (token < tokens)
        row = start + token * row_stride + column
        first = tl.load(row, mask=real, other=0.0).to(tl.float32)
        second = tl.load(row + PAIRS, mask=real, other=0.0).to(tl.float32)
        squares = tl.sum(tl.sum(first * first + second * second, 1), 0)
        length = tl.rsqrt(squares / width + eps)
        first *= length * gain_first
        second *= length * gain_second
        if MEAN:
            sum_first += first
            sum_second += second
        table = (own * tokens + token) * PAIRS + pair
        turn = (pair < PAIRS) & (token < tokens)
        cos = tl.load(cosine + table, mask=turn, other=0.0)
        sin = tl.load(sine + table, mask=turn, other=0.0)
        place = out + (frame * tokens + token) * width + column
        kind = out.dtype.element_ty
        tl.store(place, (first * cos - second * sin).to(kind), mask=real)
        tl.store(place + PAIRS, (first * sin + second * cos).to(kind), mask=real)
    if MEAN:
        place = partial + (frame * tl.num_programs(0) + chunk) * width + column
        tl.store(place, sum_first, mask=inside)
        tl.store(place + PAIRS, sum_second, mask=inside)


def normalise_rotate(
    x: Tensor, gain: Tensor, cosine: Tensor, sine: Tensor, eps: float, *, mean: bool = True
) -> tuple[Tensor, Tensor | None]:
    """See ``passes.normalise_rotate``; frames and tokens of ``x`` lie at one stride."""
    batch, frames, tokens, width = x.shape
    pairs = cosine.shape[-1]
    heads = width // (2 * pairs)
    assert x.stride(-1) == 1 and x.stride(1) == tokens * x.stride(2)
    out = torch.empty((batch, frames, tokens, width), dtype=x.dtype, device=x.device)
    chunks = triton.cdiv(tokens, ROWS)
    shape = (batch, frames, chunks if mean else 0, width)
    partial = torch.empty(shape, dtype=torch.float32, device=x.device)
    _normalise_rotate[(chunks, batch * frames)](
        x, gain, cosine, sine, out, partial,
        tokens, frames, x.stride(2), x.stride(0), heads, eps, MEAN=mean, ROWS=ROWS, STAGES=STAGES,
        HEADS=triton.next_power_of_2(heads), HALF=triton.next_power_of_2(pairs), PAIRS=pairs,
        num_warps=4,
    )  # fmt: skip
    return out, partial.sum(2) / tokens if mean else None


@triton.jit
def _normalise(x_in, gain, out, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < width
    x = tl.load(x_in + row * width + column, mask=inside, other=0.0).to(tl.float32)
    length = tl.rsqrt(tl.sum(x * x, 0) / width + eps)
    y = x * length * tl.load(gain + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + column, y.to(out.dtype.element_ty), mask=inside)


def normalise(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """See ``passes.normalise``."""
    x = x.contiguous()
    out = torch.empty_like(x)
    width = x.shape[-1]
    _normalise[(x.numel() // width,)](
        x, gain, out, width, eps, BLOCK=triton.next_power_of_2(width), num_warps=4
    )
    return out


@triton.jit
def _lengths(x_in, out, width, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    x = tl.load(x_in + row * width + column, mask=column < width, other=0.0).to(tl.float32)
    tl.store(out + row, tl.rsqrt(tl.sum(x * x, 0) / width + eps))


@triton.jit
def _text_weights(
    query, lengths, keys, counts, out, rows, count, factor,
    HEADS: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    KEYS: tl.constexpr,
):  # fmt: skip
    head, batch = tl.program_id(1), tl.program_id(2).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    line = batch * rows + row.to(tl.int64)
    column, key = tl.arange(0, BLOCK), tl.arange(0, KEYS)
    real = (row[:, None] < rows) & (column[None, :] < CHANNELS)
    place = query + line[:, None] * (HEADS * CHANNELS) + head * CHANNELS + column[None, :]
    x = tl.load(place, mask=real, other=0.0)
    place = keys + (batch * HEADS + head) * count * CHANNELS
    known = (key[None, :] < count) & (column[:, None] < CHANNELS)
    other = tl.load(place + key[None, :] * CHANNELS + column[:, None], mask=known, other=0.0)
    length = tl.load(lengths + line, mask=row < rows, other=0.0) * factor
    often = tl.load(counts + batch * count + key, mask=key < count, other=float("-inf"))
    scores = tl.dot(x, other, input_precision="tf32x3") * length[:, None] + often[None, :]
    scores = tl.exp(scores - tl.max(scores, 1)[:, None])
    share = scores / tl.sum(scores, 1)[:, None]
    place = out + line[:, None] * (HEADS * count) + head * count + key[None, :]
    inside = (row[:, None] < rows) & (key[None, :] < count)
    tl.store(place, share.to(out.dtype.element_ty), mask=inside)


def text_weights(query: Tensor, keys: Tensor, counts: Tensor, eps: float) -> Tensor:
    """See ``passes.text_weights``; all operands are contiguous."""
    batch, heads, count, channels = keys.shape
    width = query.shape[-1]
    rows = query.numel() // (batch * width)
    lengths = query.new_empty(batch * rows, dtype=torch.float32)
    block = triton.next_power_of_2(width)
    _lengths[(batch * rows,)](query, lengths, width, eps, BLOCK=block, num_warps=4)
    out = query.new_empty((*query.shape[:-1], heads * count))
    taken = TEXT_ROWS if query.element_size() == 2 else TEXT_ROWS // 4  # as they find room
    _text_weights[(triton.cdiv(rows, taken), heads, batch)](
        query, lengths, keys, counts, out, rows, count, channels**-0.5,
        HEADS=heads, CHANNELS=channels, ROWS=taken,
        BLOCK=max(16, triton.next_power_of_2(channels)),
        KEYS=max(16, triton.next_power_of_2(count)), num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _gather_patches(
    y, out, frames, rows, columns, high_count, wide_count, memory_frames, width,
    STEP: tl.constexpr, HIGH: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0).to(tl.int64)  # a memory token, counted through the batch
    line = tl.program_id(1)  # a frame and row of its patch, whose tokens are neighbours
    wide = place % wide_count
    high = place // wide_count % high_count
    memory_frame = place // (wide_count * high_count)
    frame = memory_frame // memory_frames * frames
    frame += memory_frame % memory_frames * STEP + line // HIGH
    row = frame * rows + high * HIGH + line % HIGH
    column = tl.arange(0, BLOCK)
    inside = column < WIDE * width
    tokens = tl.load(y + (row * columns + wide * WIDE) * width + column, mask=inside)
    tl.store(out + (place * STEP * HIGH + line) * (WIDE * width) + column, tokens, mask=inside)


def gather_patches(y: Tensor, grid: tuple[int, int], stride: tuple[int, int, int]) -> Tensor:
    """See ``passes.gather_patches``; ``y`` is contiguous."""
    batch, frames, _, width = y.shape
    assert y.is_contiguous()
    step, high, wide = stride
    memory_frames, rows, columns = frames // step, grid[0] // high, grid[1] // wide
    out = y.new_empty((batch, memory_frames, rows * columns, step * high * wide * width))
    _gather_patches[(batch * memory_frames * rows * columns, step * high)](
        y, out, frames, *grid, rows, columns, memory_frames, width,
        STEP=step, HIGH=high, WIDE=wide, BLOCK=triton.next_power_of_2(wide * width), num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _scale_rows(weight, gate, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    x = tl.load(weight + row * width + column, mask=inside, other=0.0).to(tl.float32)
    y = x * tl.load(gate + row)
    tl.store(out + row * width + column, y.to(out.dtype.element_ty), mask=inside)


def scale_rows(weight: Tensor, gate: Tensor) -> Tensor:
    """See ``passes.scale_rows``."""
    weight = weight.contiguous()
    out = torch.empty_like(weight)
    rows, width = weight.shape
    block = min(2048, triton.next_power_of_2(width))
    _scale_rows[(rows, triton.cdiv(width, block))](
        weight, gate.contiguous(), out, width, BLOCK=block, num_warps=4
    )
    return out


@triton.jit
def _merge(first, second, first_weight, second_weight, out, width, tokens, out_stride_batch,
           weight_stride_head, weight_stride_token, weight_stride_batch,
           CHANNELS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    batch = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    of_head = batch * weight_stride_batch + (column // CHANNELS) * weight_stride_head
    for i in range(ROWS):  # with some on their way, copying weights one by one takes six times it
        token = tl.program_id(0) * ROWS + i
        row = batch * tokens + token
        inside = (column < width) & (token < tokens)
        place = of_head + token * weight_stride_token
        a = tl.load(first_weight + place, mask=inside, other=0.0)
        b = tl.load(second_weight + place, mask=inside, other=0.0)
        x = tl.load(first + row * width + column, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(second + row * width + column, mask=inside, other=0.0).to(tl.float32)
        merged = y + (x - y) / (1 + tl.exp(b - a))
        target = out + batch * out_stride_batch + token * width + column
        tl.store(target, merged.to(out.dtype.element_ty), mask=inside)


def merge(
    first: Tensor, first_weight: Tensor, second: Tensor, second_weight: Tensor,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """See ``attention.merge``; ``out``, whose tokens are contiguous, takes the result."""
    batch, tokens, heads, channels = first.shape
    if out is None:
        out = first.new_empty((batch, tokens, heads, channels))
    assert out[0].is_contiguous()
    first, second = first.contiguous(), second.contiguous()
    second_weight = second_weight.contiguous()
    first_weight = first_weight.contiguous()
    width = heads * channels
    _merge[(triton.cdiv(tokens, MERGE_ROWS), batch)](
        first, second, first_weight, second_weight, out, width, tokens, out.stride(0),
        first_weight.stride(1), first_weight.stride(2), first_weight.stride(0),
        CHANNELS=channels, ROWS=MERGE_ROWS, BLOCK=triton.next_power_of_2(width), num_warps=4,
    )  # fmt: skip
    return out


@triton.jit
def _join(parts, weights, places, out, totals, together, tokens, width, heads,
          COUNT: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    frame, token = tl.program_id(0), tl.program_id(1)
    column = tl.arange(0, BLOCK)
    inside = column < width
    head = column // CHANNELS
    rows = together * tokens  # of a call
    most = tl.full([BLOCK], float("-inf"), tl.float32)
    whole = tl.zeros([BLOCK], tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for i in range(COUNT):
        place = tl.load(places + frame * COUNT + i)
        call = place // together
        row = place % together * tokens + token
        weight = tl.load(weights + (call * heads + head) * rows + row, mask=inside, other=0.0)
        part = tl.load(parts + (call * rows + row) * width + column, mask=inside, other=0.0)
        highest = tl.maximum(most, weight)
        before, now = tl.exp(most - highest), tl.exp(weight - highest)
        total = total * before + part.to(tl.float32) * now
        whole = whole * before + now
        most = highest
    target = (frame * tokens + token).to(tl.int64) * width + column
    tl.store(out + target, (total / whole).to(out.dtype.element_ty), mask=inside)
    first = inside & (column % CHANNELS == 0)
    tl.store(totals + (frame * heads + head) * tokens + token, most + tl.log(whole), mask=first)


def join(out: Tensor, weight: Tensor, places: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """See ``attention.join``."""
    _, rows, heads, channels = out.shape
    frames, count = places.shape
    joined = out.new_empty((frames, tokens, heads, channels))
    total = weight.new_empty((frames, heads, tokens))
    width = heads * channels
    _join[(frames, tokens)](
        out.contiguous(), weight.contiguous(), places.contiguous(), joined, total,
        rows // tokens, tokens, width, heads,
        COUNT=count, CHANNELS=channels, BLOCK=triton.next_power_of_2(width), num_warps=4,
    )  # fmt: skip
    return joined, total


@triton.jit
def _normalise_silu(x_in, gain, out, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < width)
    x = tl.load(x_in + row * width + column, mask=inside, other=0.0).to(tl.float32)
    length = tl.sqrt(tl.sum(x * x, 1))
    scale = tl.sqrt(width.to(tl.float32)) / tl.maximum(length, 1e-12)
    y = x * scale[:, None] * tl.load(gain + column, mask=column < width, other=0.0).to(tl.float32)
    y = y / (1 + tl.exp(-y))
    tl.store(out + row * width + column, y.to(out.dtype.element_ty), mask=inside)


def normalise_silu(x: Tensor, gain: Tensor) -> Tensor:
    """Norm and SiLU of contiguous rows ``[..., C]``, see ``autoencoder_kernels``."""
    out = torch.empty_like(x)
    width = x.shape[-1]
    block = triton.next_power_of_2(width)
    rows = max(1, 4096 // block)
    count = x.numel() // width
    _normalise_silu[(triton.cdiv(count, rows),)](
        x, gain, out, count, width, ROWS=rows, BLOCK=block, num_warps=4
    )
    return out
