# SPDX-License-Identifier: Apache-2.0
"""When a sampling step may reuse the last velocity instead of running the transformer.

The idea of TeaCache (arXiv 2411.19108) and EasyCache (arXiv 2507.02860): while the prediction
changes slowly, a forward tells little that is new. How fast it changes is measured at the
forwards that do run, as the change of the velocity per change of the latents.
"""

from __future__ import annotations

from torch import Tensor

WARM_UP = 2  # forwards before the first that may be skipped: the rate takes two to measure


class StepCache:
    """Skips forwards while the velocity is estimated to have changed less than ``threshold``.

    The threshold is relative to the velocity's length and holds for the worst sample of a batch;
    0 skips nothing. Made anew for every sampling.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._forwards = 0
        self._rate = 0.0  # relative change of the velocity per length of way of the latents
        self._computed: Tensor | None = None  # latents of the last forward
        self._velocity: Tensor | None = None

    def reuse(self, latents: Tensor) -> Tensor | None:
        """Return the velocity to go on with, None where the transformer has to run."""
        if self._threshold <= 0 or self._forwards < WARM_UP:
            return None
        assert self._computed is not None
        change = self._rate * _length(latents - self._computed)
        return self._velocity if change < self._threshold else None

    def store(self, latents: Tensor, velocity: Tensor) -> None:
        """Take what a forward predicted."""
        if self._threshold <= 0:
            return
        if self._computed is not None and self._velocity is not None:
            way = _length(latents - self._computed)
            change = _length(velocity - self._velocity, relative_to=velocity)
            self._rate = change / way if way > 0 else 0.0
        self._forwards += 1
        self._computed, self._velocity = latents, velocity


def _length(x: Tensor, relative_to: Tensor | None = None) -> float:
    """Return the greatest length of a sample of ``x [B, ...]``, relative to that of another."""
    length = x.flatten(1).norm(dim=1)
    if relative_to is not None:
        length = length / relative_to.flatten(1).norm(dim=1).clamp_min(1e-12)
    return float(length.max())
