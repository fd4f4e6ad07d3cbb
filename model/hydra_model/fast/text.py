# SPDX-License-Identifier: Apache-2.0
"""Attention to a prompt with what never changes done once: exact up to rounding.

A prompt is padded to 512 tokens, and all of its padding has one key and one value: it is one key
that counts as often. The norm's gain of the queries is multiplied into the keys, and the output
product into the values, so that ``softmax(queries * keys) * values`` is all that is left, over as
many keys a head as the prompt has tokens, and one.

Shape legend: B batch, L tokens of a padded prompt, H heads, D channels a head, C width, J keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hydra_model.blocks import CrossAttention

STEP = 16  # keys are filled up to a multiple, as products want it
MOST = 128  # keys; with more, attention to all 512 tokens is as fast


@dataclass(frozen=True)
class TextKeys:
    """What a block attends to of a batch's prompts.

    ``keys [B, H, J, D]``; ``counts [B, J]`` float32, the logarithm of how often each counts, -inf
    where it fills up; ``values [B, H * J, C]``.
    """

    keys: Tensor
    counts: Tensor
    values: Tensor


@dataclass(frozen=True)
class PromptRows:
    """Which rows of a batch's padded prompts are keys: ``index``, ``counts`` ``[B, J]``."""

    index: Tensor
    counts: Tensor


def prompt_rows(text: Tensor) -> PromptRows | None:
    """Return the rows that differ in ``text [B, L, C]``, None where they are too many."""
    length = text.shape[1]
    last = text[:, -1:].float()
    # Products of equal rows may differ in their last bit, and in that of their float32 sums.
    sums = 4 * torch.finfo(torch.float32).eps * last.abs().amax(-1, keepdim=True)
    bound = torch.finfo(text.dtype).eps * last.abs() + sums
    same = ((text.float() - last).abs() <= bound).all(-1)
    padding = same.flip(1).cumprod(1).sum(1)  # [B], 1 or more
    own = length - padding
    count = int(own.max()) + 1
    count += -count % STEP
    if count > MOST:
        return None
    place = torch.arange(count, device=text.device)
    index = torch.where(place < own[:, None], place, length - 1)
    counts = torch.where(place == own[:, None], padding[:, None].float().log(), 0.0)
    return PromptRows(index, counts.masked_fill(place > own[:, None], float("-inf")))


def text_keys(attention: CrossAttention, heads: int, text: Tensor, rows: PromptRows) -> TextKeys:
    """Return the keys of a block's attention for ``text [B, L, C]``."""
    chosen = text.gather(1, rows.index[..., None].expand(-1, -1, text.shape[-1]))
    gain = attention.norm_key.weight.float() * attention.norm_query.weight.float()
    key = attention.key(chosen).float()
    key = key * torch.rsqrt(key.square().mean(-1, keepdim=True) + attention.norm_key.eps) * gain
    value = attention.value(chosen).float().unflatten(-1, (heads, -1))
    output = attention.output.weight.float().unflatten(-1, (heads, -1))
    values = torch.einsum("bjhd,chd->bhjc", value, output).flatten(1, 2)
    return TextKeys(
        key.unflatten(-1, (heads, -1)).transpose(1, 2).to(text.dtype).contiguous(),
        rows.counts,
        values.to(text.dtype).contiguous(),
    )
