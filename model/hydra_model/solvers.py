# SPDX-License-Identifier: Apache-2.0
"""Solvers of the flow's ordinary differential equation, from one forward to the next.

A sample at noise share sigma is ``x = (1 - sigma) * clean + sigma * noise`` and the model
predicts the velocity ``v = noise - clean = dx / dsigma``, so the clean sample that it believes in
is ``x - sigma * v``. The second-order solvers extrapolate that belief over
``lambda = log((1 - sigma) / sigma)``, half the logarithm of the signal-to-noise ratio.

Every solver takes one forward a step. The steps from sigma 1 and to sigma 0, where lambda is
infinite, are of first order.
"""

from __future__ import annotations

import math
from typing import Protocol

from torch import Tensor


class Solver(Protocol):
    """Advances latents step by step; made anew for every sampling."""

    def step(self, latents: Tensor, velocity: Tensor, sigma: float, following: float) -> Tensor:
        """Return the latents at ``following``, with the velocity of ``latents`` at ``sigma``."""
        ...


class Euler:
    """First order: along the velocity. How the released pipeline samples."""

    def step(self, latents: Tensor, velocity: Tensor, sigma: float, following: float) -> Tensor:
        return latents + velocity * (following - sigma)


class DpmPlusPlus:
    """Second order, two steps: DPM-Solver++(2M), arXiv 2211.01095, algorithm 2."""

    def __init__(self) -> None:
        self._last: tuple[float, Tensor] | None = None  # sigma and clean sample

    def step(self, latents: Tensor, velocity: Tensor, sigma: float, following: float) -> Tensor:
        clean = latents - sigma * velocity
        out = predict(latents, clean, sigma, following, self._last)
        self._last = (sigma, clean)
        return out


class UniPC:
    """Second order with a corrector: UniPC-2 with B2(h), arXiv 2302.04867; third in all.

    Each forward first corrects the step that led to it, then predicts the next.
    """

    def __init__(self) -> None:
        self._start: Tensor | None = None  # of the last step
        self._history: list[tuple[float, Tensor]] = []  # of the last two, newest last

    def step(self, latents: Tensor, velocity: Tensor, sigma: float, following: float) -> Tensor:
        clean = latents - sigma * velocity
        if self._start is not None:
            latents = correct(latents, self._start, clean, sigma, self._history)
        last = self._history[-1] if self._history else None
        out = predict(latents, clean, sigma, following, last)
        self._start = latents
        self._history = [*self._history[-1:], (sigma, clean)]
        return out


SOLVERS: dict[str, type[Solver]] = {"euler": Euler, "dpm++": DpmPlusPlus, "unipc": UniPC}


def half_log_snr(sigma: float) -> float:
    """Return ``log((1 - sigma) / sigma)``, infinite at both ends."""
    if sigma <= 0:
        return math.inf
    return -math.inf if sigma >= 1 else math.log((1 - sigma) / sigma)


def predict(
    latents: Tensor,
    clean: Tensor,
    sigma: float,
    following: float,
    last: tuple[float, Tensor] | None,
) -> Tensor:
    """Step from ``sigma`` to ``following``; ``last`` is the step before: sigma, clean sample."""
    here = half_log_snr(sigma)
    width = half_log_snr(following) - here
    if last is not None and math.isfinite(width):
        ratio = (here - half_log_snr(last[0])) / width
        if math.isfinite(ratio):
            clean = clean + (clean - last[1]) / (2 * ratio)
    return settle(latents, clean, sigma, following)


def correct(
    latents: Tensor,
    start: Tensor,
    clean: Tensor,
    sigma: float,
    history: list[tuple[float, Tensor]],
) -> Tensor:
    """Improve the step from ``start`` to ``latents`` at ``sigma`` by what was seen there.

    ``clean`` is the clean sample believed in at ``latents``; ``history`` are sigma and clean
    sample of the start and, if there was one, of the step before it (newest last).
    """
    first, origin = history[-1]
    width = half_log_snr(sigma) - half_log_snr(first)
    if not math.isfinite(width):
        return latents
    # The integrals of the exponential times a polynomial, which the corrector solves for.
    whole = math.expm1(-width)
    phi = whole / -width - 1
    one, two = phi / whole, 2 * (phi / -width - 0.5) / whole
    change = clean - origin
    before = 0.0
    if len(history) > 1:
        before = (half_log_snr(history[-2][0]) - half_log_snr(first)) / width
    if len(history) > 1 and math.isfinite(before):
        weight_before = (one - two) / (1 - before)
        slope = (history[-2][1] - origin) / before
        total = weight_before * slope + (one - weight_before) * change
    else:
        total = 0.5 * change
    return settle(start, origin + total, first, sigma)


def settle(latents: Tensor, clean: Tensor, sigma: float, following: float) -> Tensor:
    """Step with a clean sample that stays as it is: exact then, whatever the width."""
    share = following / sigma
    return share * latents + ((1 - following) - (1 - sigma) * share) * clean
