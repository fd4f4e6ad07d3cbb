# SPDX-License-Identifier: Apache-2.0
"""Softmax attention on a CPU, by whatever multiplies fastest there.

PyTorch's own attention for CPUs takes the scores of a few queries at a time, in products so small
that AVX-512's bfloat16 units are idle for most of it: of a chunk of the default model it took a
third. Written out as two products with a softmax between them it takes 0.6 times as long, if the
scores stay in the cache: so they are made for a few frames, or queries, at once. In float32 that
is no faster, and tiles (AMX) are used by PyTorch's own: both are left to it.

Shape legend: N queries, L keys, C channels, H heads.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from hydra_model import attention as att
from hydra_model.autoencoder import fastest_dtype

_SCORES = 1 << 21  # of all heads, at once: 4 MiB


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Softmax attention of ``query [..., N, C]`` over ``key, value [..., L, C]``, by heads."""
    if query.dtype == torch.bfloat16 and products_are_faster():
        return attend_by_products(query, key, value, heads)
    return att.attend(query, key, value, heads)


@functools.cache
def products_are_faster() -> bool:
    """Whether this CPU multiplies bfloat16, and not in tiles."""
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    return fastest_dtype(torch.device("cpu")) == torch.bfloat16 and not tiles


def attend_by_products(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """As ``attend``, in two products; scores are rounded to the operands' type."""
    leading = query.shape[:-2]
    channels = query.shape[-1] // heads
    query, key, value = (
        t.flatten(0, -3).unflatten(-1, (heads, -1)).transpose(1, 2)
        for t in (query * channels**-0.5, key, value)
    )
    # Head after head, as products read it; keys and values, which are more, a part at a time.
    query = query.contiguous()
    batch, _, queries, _ = query.shape
    out = query.new_empty(batch, queries, heads, channels).transpose(1, 2)
    each = heads * key.shape[2]  # scores of a query
    together = max(1, min(queries, _SCORES // each))
    frames = max(1, _SCORES // (each * queries))
    for first in range(0, batch, frames):
        own = slice(first, first + frames)
        keys = key[own].contiguous().transpose(-1, -2)
        values = value[own].contiguous()
        for start in range(0, queries, together):
            some = (own, slice(None), slice(start, start + together))
            out[some] = (query[some] @ keys).softmax(-1) @ values
    return out.transpose(1, 2).flatten(2).unflatten(0, leading)
