# SPDX-License-Identifier: Apache-2.0
"""What subjects look like: two parts each, a body and a head, and a pattern on the body.

The style "plain" knows walkers alone. "Rich" also has carts (a box on dark wheels with a mast),
slim tall figures and low domes with a mast. A subject always keeps its own saturated hue on
half of its body or more, by which it can be told from the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hydra_model.procedural.colors import hsv_to_rgb
from hydra_model.procedural.motion import MAX_SUBJECTS, PLAIN
from hydra_model.procedural.random import choice, uniform

WALKER, CART, SLIM, DOME = range(4)
FORM_WEIGHTS = (0.4, 0.25, 0.15, 0.2)
# Columns of a form, in shares of the subject's height: the body's centre and half height, the
# head's centre, radius and half height, and below what the body is dark (legs, wheels).
_FORMS = (
    (0.41, 0.41, 0.875, 0.125, 0.125, 0.33),
    (0.25, 0.25, 0.74, 0.07, 0.26, 0.17),
    (0.43, 0.43, 0.925, 0.075, 0.075, 0.3),
    (0.24, 0.24, 0.72, 0.09, 0.28, 0.12),
)
# Height and body radius (a box's half width) in metres, lowest and highest.
_HEIGHTS = ((1.5, 1.9), (1.0, 1.35), (2.0, 2.5), (0.9, 1.2))
_RADII = ((0.26, 0.34), (0.28, 0.36), (0.2, 0.26), (0.42, 0.52))
_BOX_LENGTHS = (1.3, 1.7)  # half length of a cart by its half width
# Patterns of a body: its own colour, or a second one on the back, in rings, or in stripes.
UNI, TWO_TONE, RINGS, STRIPES = range(4)


def sample_subjects(seeds: Tensor, hues: Tensor, style: str) -> dict[str, Tensor]:
    """Draw the subjects' fields of ``Scenes`` for saturated hues [B, S] (turns)."""
    count = MAX_SUBJECTS
    ones = torch.ones_like(hues)
    color = hsv_to_rgb(hues, ones, uniform(seeds, "subject value", count, low=0.85))
    forms = torch.tensor(_FORMS, dtype=hues.dtype, device=hues.device)
    if style == PLAIN:
        height = uniform(seeds, "subject height", count, low=1.3, high=1.9)
        girth = height * uniform(seeds, "subject girth", count, low=0.15, high=0.2)
        shape = torch.cat([forms[:1], forms.new_zeros(1, 1)], 1).expand(*hues.shape, -1)
        second, pattern = color, torch.zeros_like(shape[..., :2])
    else:
        form = choice(seeds, "subject form", FORM_WEIGHTS, count)
        limits = torch.tensor([_HEIGHTS, _RADII], dtype=hues.dtype, device=hues.device)

        def between(kind: int, stream: str) -> Tensor:
            low, high = limits[kind, form].unbind(-1)
            return low + (high - low) * uniform(seeds, stream, count)

        height, girth = between(0, "subject height"), between(1, "subject girth")
        low, high = _BOX_LENGTHS
        length = girth * uniform(seeds, "subject length", count, low=low, high=high)
        length = torch.where(form == CART, length, 0.0)
        shape = torch.cat([forms[form], length[..., None]], -1)
        second = _second_colors(seeds, hues)
        kind = choice(seeds, "subject pattern", (0.25, 0.25, 0.25, 0.25), count)
        cell = uniform(seeds, "subject pattern cell", count, low=0.13, high=0.2)
        pattern = torch.stack([kind.to(cell), cell], -1)
    return {
        "subject_color": color,
        "subject_size": torch.stack([height, girth], -1),
        "subject_shape": shape,
        "subject_second_color": second,
        "subject_pattern": pattern,
    }


def _second_colors(seeds: Tensor, hues: Tensor) -> Tensor:
    """Draw near white, near black, or the own hue darker, [B, S, 3]: no other subject's colour."""
    index = choice(seeds, "subject second color", (0.45, 0.3, 0.25), hues.shape[1])
    grey = torch.where(index == 0, 0.93, 0.1)
    dark = hsv_to_rgb(hues, torch.ones_like(hues), torch.full_like(hues, 0.4))
    return torch.where((index == 2)[..., None], dark, grey[..., None])
