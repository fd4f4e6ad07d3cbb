# SPDX-License-Identifier: Apache-2.0
"""The residual stream of a forward, and what is still to be added to it.

What a product adds to the stream, it adds itself where it can (``in_place``): the gate is
multiplied into its weights, and its bias, the same for all tokens, is not stored with them but
carried along. Otherwise the next norm adds it, in the pass that it makes over the stream anyway.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hydra_model.fast.passes import Passes
from hydra_model.fast.products import AnyProduct, Product, Quantised

# Rows: 60 tiles of 128, whose wide products fill a Hopper GPU's 132 processors evenly.
AT_ONCE = 7680


class Residual:
    """A stream ``x [B, T, N, C]``, which is overwritten.

    ``lag [C]`` float32 belongs to every token and is not in ``x``.
    """

    def __init__(self, x: Tensor, passes: Passes, eps: float, *, in_place: bool) -> None:
        self._x = x
        self._passes = passes
        self._eps = eps
        self._in_place = in_place
        self._branch: Tensor | None = None  # to be added
        self._gate: Tensor | None = None
        self._lag: Tensor | None = None

    def norm(self, scale: Tensor, bias: Tensor) -> Tensor:
        """Return the layer norm of the stream; arguments as of ``passes.add_norm``."""
        self._x, y = self._passes.add_norm(
            self._x, self._branch, self._gate, scale, bias, self._eps, self._lag
        )
        self._branch = self._gate = None
        return y

    def norm_quantised(
        self, scale: Tensor, bias: Tensor, *, keep: bool = False
    ) -> tuple[Tensor | None, Quantised]:
        """Return it for a product in 8 bits, and with ``keep`` as ``norm`` does too."""
        self._x, y, rows = self._passes.add_norm_quantised(
            self._x, self._branch, self._gate, scale, bias, self._eps, self._lag, keep=keep
        )
        self._branch = self._gate = None
        return y, rows

    def add(self, product: AnyProduct, rows: Tensor | Quantised, gate: Tensor | None) -> None:
        """Add ``gate [1 or B, 1, 1, C]`` times a product of ``rows [B, T, N, K]``."""
        if isinstance(product, Product) and isinstance(rows, Tensor) and self._alike(gate):
            weight, bias = self._gated(product, gate)
            self._x.view(-1, len(weight)).addmm_(rows.reshape(-1, weight.shape[1]), weight.T)
            self._carry(bias)
        else:
            self._branch, self._gate = product(rows), gate

    def add_made(
        self, product: AnyProduct, make: Callable[[Tensor], Tensor], rows: Tensor,
        gate: Tensor | None,
    ) -> None:  # fmt: skip
        """Add ``gate`` times a product of what ``make`` makes of ``rows [B, T, N, C]``, wider ones.

        ``AT_ONCE`` rows at a time: more of what is made of them is in the cache when it is read.
        """
        flat = rows.flatten(0, -2)
        if isinstance(product, Product) and self._alike(gate):
            weight, bias = self._gated(product, gate)
            x = self._x.view(-1, len(weight))
            for part, own in zip(flat.split(AT_ONCE), x.split(AT_ONCE), strict=True):
                own.addmm_(make(part), weight.T)
            self._carry(bias)
        else:
            self.add(product, make(flat).unflatten(0, rows.shape[:-1]), gate)

    def add_batched(self, rows: Tensor, weights: Tensor, bias: Tensor) -> None:
        """Add ``rows [B, T, N, K]`` times each entry's ``weights [B, K, C]``, and a bias."""
        if self._in_place:
            self._x.flatten(1, 2).baddbmm_(rows.flatten(1, 2), weights)
            self._carry(bias.float())
        else:
            product = rows.flatten(1, 2) @ weights + bias
            self._branch, self._gate = product.view(self._x.shape), None

    def keep(self, first: int) -> None:
        """Go on with the frames from ``first`` on."""
        self._x = self._x[:, first:].contiguous()

    def repeat(self, times: int) -> None:
        """Go on with a batch that is repeated."""
        self._x = torch.cat([self._x] * times)
        if self._branch is not None:
            self._branch = torch.cat([self._branch] * times)
        if self._gate is not None and len(self._gate) > 1:
            self._gate = torch.cat([self._gate] * times)

    def _gated(self, product: Product, gate: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the product's weight and float32 bias times the gate."""
        weight, bias = product.weight, product.bias.float()
        if gate is None:
            return weight, bias
        row = gate.view(-1)
        return self._passes.scale_rows(weight, row), bias * row

    def _alike(self, gate: Tensor | None) -> bool:
        return self._in_place and (gate is None or gate.shape[0] == 1)

    def _carry(self, bias: Tensor) -> None:
        self._lag = bias if self._lag is None else self._lag + bias
