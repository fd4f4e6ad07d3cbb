# SPDX-License-Identifier: Apache-2.0
"""Counter-based random numbers: a value depends on its seed and its name, on nothing else.

A generator with a state would make a world depend on what was drawn before it. Here every
number is a hash of (seed, stream name, counter), so a world is the same alone or in a
batch, on a CPU or on a GPU.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """Wrap an unsigned 64-bit integer into the int64 with the same bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


# The increment and the multipliers of the SplitMix64 generator (Steele, Lea, Flood 2014).
_INCREMENT = _signed(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = _signed(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift without copying the sign bit, which int64's own shift would do."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def as_seeds(seeds: int | Iterable[int] | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """Return seeds as int64 [B]; Python integers may be any unsigned or signed 64-bit value."""
    if isinstance(seeds, Tensor):
        if seeds.dtype != torch.int64 or seeds.ndim != 1:
            raise ValueError(
                f"seeds are {seeds.dtype} {list(seeds.shape)}; accepted is one int64 per world, [B]"
            )
        return seeds.to(device)
    values = [seeds] if isinstance(seeds, int) else list(seeds)
    return torch.tensor([_signed(int(value)) for value in values], dtype=torch.int64, device=device)


def random_bits(seeds: Tensor, stream: str, *shape: int) -> Tensor:
    """Hash seeds int64 [B] and a stream's name into int64 [B, *shape] of 64 random bits each."""
    name = _signed(zlib.crc32(stream.encode()) * 0x9E3779B97F4A7C15)
    key = _mix(_mix(seeds + _INCREMENT) ^ name)
    counter = torch.arange(1, math.prod(shape) + 1, device=seeds.device)
    return _mix(key[:, None] + counter * _INCREMENT).reshape(len(seeds), *shape)


def uniform(seeds: Tensor, stream: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Draw float64 [B, *shape] evenly from [low, high) for seeds int64 [B]."""
    fraction = _shift_right(random_bits(seeds, stream, *shape), 11).to(torch.float64) * 2.0**-53
    return low + (high - low) * fraction


def choice(seeds: Tensor, stream: str, weights: Sequence[float], *shape: int) -> Tensor:
    """Draw int64 [B, *shape] indices into ``weights``, each as likely as its weight."""
    if not weights or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"weights are {list(weights)}; accepted are non-negative, not all zero")
    total = sum(weights)
    bounds = [sum(weights[: i + 1]) / total for i in range(len(weights) - 1)]
    draw = uniform(seeds, stream, *shape)
    index = torch.zeros_like(draw, dtype=torch.int64)
    for bound in bounds:
        index += draw >= bound
    return index


def sign(seeds: Tensor, stream: str, *shape: int) -> Tensor:
    """Draw float64 [B, *shape] of -1 or 1."""
    return choice(seeds, stream, (1.0, 1.0), *shape).to(torch.float64) * 2 - 1
