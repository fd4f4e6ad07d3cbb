# SPDX-License-Identifier: Apache-2.0
"""Rotary positions over (time, row, column), in real arithmetic.

Pairs of neighbouring channels turn by ``position * theta ** (-2 i / axis_channels)``. A
head's channel pairs are split into three axes: a third (rounded down) for rows, as many
for columns, the rest for time (44, 42, 42 of 128 channels).

Where viewing rays are known, the slower half of the pairs for rows and columns, which hardly
turn within an image, can stand for directions in the world instead (``ray_rotation``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class RayRates(NamedTuple):
    """How fast pairs turn with a viewing ray's elevation and azimuth, ``rates [2, pairs]``.

    Of all pairs those from number ``first`` on; no other turns with rays.
    """

    rates: Tensor
    first: int

    @classmethod
    def of(cls, rates: Tensor, device: torch.device) -> RayRates:
        """Cut ``rates [2, head_dim / 2]``, on the CPU, to the pairs that turn."""
        turning = rates.any(0).nonzero()
        first, last = int(turning[0]), int(turning[-1])
        return cls(rates[:, first : last + 1].float().to(device), first)


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines, each float32 ``[tokens, head_dim / 2]`` or ``[B, tokens, ...]``.

    ``rays`` says how pairs turn with viewing rays, where they do.
    """

    cosine: Tensor
    sine: Tensor
    value: Rotation | None = None  # of the values, where they have positions
    rays: RayRates | None = None

    @property
    def per_sample(self) -> bool:
        """Whether the samples of a batch are turned differently."""
        return self.cosine.ndim == 3

    @property
    def back(self) -> Rotation:
        """The rotation that undoes this one."""
        return Rotation(self.cosine, -self.sine)

    def rows(self, index: Tensor) -> Rotation:
        """Return the rotation of those samples of the batch."""
        if not self.per_sample:
            return self
        value = None if self.value is None else self.value.rows(index)
        return Rotation(self.cosine[index], self.sine[index], value, self.rays)


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
    angle = _grid_angles(times, rows, columns, head_dim, theta).flatten(0, 2)
    return Rotation(angle.cos().float(), angle.sin().float())


def ray_rotation(
    times: Tensor,
    rows: Tensor,
    columns: Tensor,
    directions: Tensor,
    head_dim: int,
    theta: float = 10000.0,
    *,
    finest: int = 16,
) -> Rotation:
    """Return the rotation ``[B, tokens, head_dim / 2]`` of tokens whose viewing rays are known.

    As ``rotation``, but the slower half of the pairs for rows turns with whole multiples of the
    elevation of ``directions [B, F, h, w, 3]`` (of any length; x right, y down, z forward, all
    in one frame), that for columns with multiples of the azimuth. Multiples run from 1 to
    ``finest``; 16 at 70 degrees over 10 tokens is once around in three tokens; whole ones close
    the circle.
    """
    grid = _grid_angles(times, rows, columns, head_dim, theta)
    grid = grid.expand(len(directions), *grid.shape)
    known = _ray_rates(head_dim, finest)
    rates = known.to(directions.device)
    elevation, azimuth = (look[..., None] for look in looks_of(directions.double()))
    turned = elevation * rates[0] + azimuth * rates[1]
    angle = torch.where(rates.any(0), turned, grid).flatten(1, 3)
    rays = RayRates.of(known, directions.device)
    return Rotation(angle.cos().float(), angle.sin().float(), rays=rays)


def ray_channels(head_dim: int) -> Tensor:
    """Return ``[head_dim]``: 1 for channels that ``ray_rotation`` turns by rays, 0 for others."""
    return _ray_rates(head_dim, 1).any(0).float().repeat_interleave(2)


def _ray_rates(head_dim: int, finest: int) -> Tensor:
    """Return float64 ``[2, head_dim / 2]``: the multiples of elevation and azimuth of each pair."""
    moments, rows, columns = axis_pairs(head_dim)
    rates = torch.zeros(2, head_dim // 2, dtype=torch.float64)
    for axis, (first, pairs) in enumerate(((moments, rows), (moments + rows, columns))):
        kept = (pairs + 1) // 2
        rates[axis, first + kept : first + pairs] = _multiples(pairs - kept, finest)
    return rates


def value_rotation(
    times: Tensor, directions: Tensor, head_dim: int, *, finest: int = 96
) -> Rotation:
    """Return how values turn, ``[B, tokens, head_dim / 2]``, by time and viewing ray.

    Two sevenths of the pairs turn with multiples of the elevation of ``directions
    [B, F, h, w, 3]``, as many with the azimuth, a fifth with time, and the rest does not turn.
    What is attended is turned back by the query's angles, so it arrives turned by the difference:
    what lies a fraction of a token away is moved by it, as a signal is by the phases of its
    Fourier series. Hence multiples up to ``finest``: 96 at 70 degrees over 10 tokens is once
    around in half a token.
    """
    pairs = head_dim // 2
    space, moments = 2 * pairs // 7, pairs // 5
    device = directions.device
    spread = torch.linspace(0, 1, space, dtype=torch.float64)
    multiples = (2 * (finest / 2) ** spread).round()
    rates = 64 ** -torch.linspace(0, 1, moments, dtype=torch.float64, device=device)
    fast = multiples.to(device)
    elevation, azimuth = (look[..., None] * fast for look in looks_of(directions.double()))
    moment = (times.double()[:, None] * rates)[None, :, None, None].expand(
        *directions.shape[:-1], moments
    )
    still = moment.new_zeros(()).expand(*directions.shape[:-1], pairs - 2 * space - moments)
    angle = torch.cat((moment, elevation, azimuth, still), dim=-1).flatten(1, 3)
    rates = torch.zeros(2, pairs, dtype=torch.float64)
    rates[0, moments : moments + space] = multiples
    rates[1, moments + space : moments + 2 * space] = multiples
    rays = RayRates.of(rates, device)
    return Rotation(angle.cos().float(), angle.sin().float(), rays=rays)


def looks_of(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return elevation and azimuth in radians of directions ``[..., 3]`` of any length.

    x right, y down, z forward: the elevation grows downwards, the azimuth to the right.
    """
    x, y, z = directions.unbind(-1)
    return torch.atan2(y, torch.hypot(x, z)), torch.atan2(x, z)


def _multiples(count: int, finest: int) -> Tensor:
    """Return ``count`` whole numbers from 1 to ``finest``, evenly spaced by their ratio."""
    exponent = torch.linspace(0, math.log2(finest), count, dtype=torch.float64)
    return (2**exponent).round()


def _grid_angles(
    times: Tensor, rows: Tensor, columns: Tensor, head_dim: int, theta: float
) -> Tensor:
    """Return float64 ``[F, h, w, head_dim / 2]``."""
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
    return torch.cat(angles, dim=-1)


def rotate(x: Tensor, by: Rotation) -> Tensor:
    """Turn ``x [B, tokens, heads, head_dim]``; computed in float32, returned in x's type."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = by.cosine.unsqueeze(-2), by.sine.unsqueeze(-2)
    turned = torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), dim=-1)
    return turned.flatten(-2).to(x.dtype)
