# SPDX-License-Identifier: Apache-2.0
"""Rotary positions over (time, row, column), in real arithmetic.

Pairs of neighbouring channels turn by ``position * theta ** (-2 i / axis_channels)``. A
head's channel pairs are split into three axes: a third (rounded down) for rows, as many
for columns, the rest for time (44, 42, 42 of 128 channels).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines, each float32 ``[tokens, head_dim / 2]``."""

    cosine: Tensor
    sine: Tensor


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """Return how many channel pairs stand for time, rows and columns."""
    pairs = head_dim // 2
    space = pairs // 3
    return pairs - 2 * space, space, space


def rotation(
    times: Tensor, rows: Tensor, columns: Tensor, head_dim: int, theta: float = 10000.0
) -> Rotation:
    """Return the rotation of every token of a grid, tokens ordered (time, row, column).

    ``times [F]``, ``rows [h]`` and ``columns [w]`` are positions (fractions are fine).
    Angles are computed in float64 and rounded once.
    """
    shape = (len(times), len(rows), len(columns))
    angles = []
    for axis, (positions, pairs) in enumerate(
        zip((times, rows, columns), axis_pairs(head_dim), strict=True)
    ):
        exponent = torch.arange(pairs, dtype=torch.float64, device=times.device) / pairs
        angle = positions.to(torch.float64)[:, None] * theta**-exponent
        view = [1, 1, 1, pairs]
        view[axis] = shape[axis]
        angles.append(angle.view(view).expand(*shape, pairs))
    angle = torch.cat(angles, dim=-1).reshape(-1, head_dim // 2)
    return Rotation(angle.cos().float(), angle.sin().float())


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turn ``x [B, tokens, heads, head_dim]``; computed in float32, returned in x's type."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = by.cosine[:, None], by.sine[:, None]
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return turned.flatten(-2).to(x.dtype)
