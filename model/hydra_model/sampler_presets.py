# SPDX-License-Identifier: Apache-2.0
"""Named ways to sample, from exact to few steps.

A preset changes the model's own sampler, so that it means the same for models that take 8 steps
and for those that take 50. ``docs/performance.md`` says what each costs and how far it departs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from hydra_model.config import SamplerConfig

EXACT = "exact"


def sampler_preset(name: str, own: SamplerConfig) -> SamplerConfig:
    """Return the sampler ``own`` as a preset changes it; a wrong name lists the right ones."""
    if name not in _PRESETS:
        raise ValueError(f"unknown sampler preset {name!r}; accepted: {', '.join(_PRESETS)}")
    return _PRESETS[name](own)


def _exact(own: SamplerConfig) -> SamplerConfig:
    return own


def _balanced(own: SamplerConfig) -> SamplerConfig:
    return dataclasses.replace(
        own,
        steps=_share(own.steps, 0.4),
        solver="unipc",
        guidance_interval=(0.75, 1.0),
        cache_threshold=0.05,
    )


def _fast(own: SamplerConfig) -> SamplerConfig:
    return dataclasses.replace(
        own,
        steps=_share(own.steps, 0.2),
        solver="unipc",
        guidance_interval=(0.9, 1.0),
        cache_threshold=0.1,
    )


def _few_step(own: SamplerConfig) -> SamplerConfig:
    # What weights are distilled for: Euler from noise in four steps, guidance already in them.
    return dataclasses.replace(own, steps=min(4, own.steps), guidance_scale=1.0, solver="euler")


def _share(steps: int, part: float) -> int:
    return max(1, math.ceil(steps * part))


_PRESETS: dict[str, Callable[[SamplerConfig], SamplerConfig]] = {
    EXACT: _exact,
    "balanced": _balanced,
    "fast": _fast,
    "few_step": _few_step,
}
SAMPLER_PRESETS = tuple(_PRESETS)
