# SPDX-License-Identifier: Apache-2.0
"""The palette: subjects are saturated, everything else is muted and of other hues."""

from __future__ import annotations

import torch
from torch import Tensor

from hydra_model.procedural.random import choice, uniform


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Convert hue (turns, any real), saturation and value [...] to RGB [..., 3] in [0, 1]."""
    offset = torch.tensor([5.0, 3.0, 1.0], dtype=hue.dtype, device=hue.device)
    k = torch.remainder(offset + 6 * hue[..., None], 6)
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * ramp)


def muted_pairs(
    seeds: Tensor, stream: str, count: int, subject_hues: Tensor, gaps: Tensor
) -> Tensor:
    """Draw two muted colours [B, count, 2, 3], light and dark, from between the subjects' hues.

    ``gaps`` [B, S] are the hues between each subject's hue and the one before it, in turns.
    """
    between = choice(seeds, f"{stream} hue", (1.0,) * gaps.shape[1], count)
    gap = gaps.gather(1, between)
    hue = subject_hues.gather(1, between) - gap * uniform(
        seeds, f"{stream} hue in gap", count, low=0.3, high=0.7
    )
    saturation = uniform(seeds, f"{stream} saturation", count, low=0.15, high=0.45)
    value = uniform(seeds, f"{stream} value", count, low=0.55, high=0.95)
    darker = value * uniform(seeds, f"{stream} contrast", count, low=0.5, high=0.75)
    return torch.stack(
        [hsv_to_rgb(hue, saturation, value), hsv_to_rgb(hue + 0.03, saturation, darker)], 2
    )
