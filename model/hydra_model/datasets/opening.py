# SPDX-License-Identifier: Apache-2.0
"""Data sets by name, as commands take them."""

from __future__ import annotations

from hydra_model.config import ModelConfig
from hydra_model.datasets.clips import ClipSource
from hydra_model.datasets.hm_world import HMWorldClips
from hydra_model.datasets.procedural_clips import ProceduralClips

ACCEPTED = "procedural[:COUNT[:FIRST_SEED]] or hm-world:FOLDER"


def open_clips(text: str, config: ModelConfig, *, device: str = "cpu") -> ClipSource:
    """Open "procedural[:count[:first seed]]" or "hm-world:folder" at the model's frame size."""
    kind, _, rest = text.partition(":")
    if kind == "hm-world" and rest:
        return HMWorldClips(rest, config)
    if kind == "procedural":
        try:
            numbers = [int(part) for part in rest.split(":")] if rest else []
        except ValueError as error:
            raise ValueError(f"data set {text!r}; accepted: {ACCEPTED}") from error
        if len(numbers) <= 2:
            count, first = [*numbers, *(256, 0)[len(numbers) :]]
            return ProceduralClips(config, count, first_seed=first, device=device)
    raise ValueError(f"data set {text!r}; accepted: {ACCEPTED}")
