# SPDX-License-Identifier: Apache-2.0
"""Matrix products with constant weights, in the model's number type or in 8 bits.

In 8 bits (E4M3) every row of the activations and every row of the weights has a scale of its own,
so that the largest value of each is the largest that the type holds. A value's rounding is at
most 1/16 of its power of two (3 bits of mantissa): 2 to 4 % of the value, and as errors of a
sum's terms are independent, about 3 % / sqrt(2) * sqrt(2) of the sum's typical size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

FP8 = torch.float8_e4m3fn
FP8_MAX = 448.0


class Quantised(NamedTuple):
    """Rows in 8 bits: ``values [..., K]`` and their float32 ``scales [..., 1]``.

    ``lengths [..., 1]`` are the rows' Euclidean ones before rounding, where they are known.
    """

    values: Tensor
    scales: Tensor
    lengths: Tensor | None = None


def quantise(x: Tensor) -> Quantised:
    """Return ``x [..., K]`` in 8 bits, a scale per row."""
    wide = x.float()
    scales = wide.abs().amax(-1, keepdim=True).clamp_min(1e-12) / FP8_MAX
    return Quantised((wide / scales).clamp(-FP8_MAX, FP8_MAX).to(FP8), scales)


class Product:
    """``x @ weight.T + bias`` for ``weight [N, K]``."""

    quantised = False

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = weight.detach()
        self.bias = bias.detach()

    def __call__(self, x: Tensor | Quantised) -> Tensor:
        assert isinstance(x, Tensor)
        return F.linear(x, self.weight, self.bias)


class Fp8Product:
    """The same in 8 bits; on a device that cannot, with the same rounding but slowly."""

    quantised = True

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        rows = quantise(weight.detach())
        self.values, self.scales = rows.values, rows.scales
        self.bias = bias.detach()
        self.dtype = weight.dtype

    def __call__(self, x: Tensor | Quantised) -> Tensor:
        rows = x if isinstance(x, Quantised) else quantise(x)
        if rows.values.device.type != "cuda":
            product = (rows.values.float() @ self.values.float().T) * rows.scales * self.scales.T
            return (product + self.bias.float()).to(self.dtype)
        flat = torch._scaled_mm(
            rows.values.flatten(0, -2), self.values.T,
            scale_a=rows.scales.flatten(0, -2), scale_b=self.scales.T,
            bias=self.bias, out_dtype=self.dtype, use_fast_accum=True,
        )  # fmt: skip
        return flat.unflatten(0, rows.values.shape[:-1])


AnyProduct = Product | Fp8Product
