# SPDX-License-Identifier: Apache-2.0
"""A world's state on disk: latents as safetensors, everything else as JSON beside them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hydra_model.memory import MemoryBank, Segment

FORMAT = 1
_LATENTS, _FACTS = "memory.safetensors", "state.json"


def write_state(folder: Path, memory: MemoryBank, facts: dict[str, Any]) -> None:
    """Write a state; ``state.json`` comes last, so a half-written folder is known as such."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FACTS).unlink(missing_ok=True)
    # Copies: the format refuses views, which segments may be.
    latents = {
        f"segment.{i:06d}": segment.latents.cpu().clone(memory_format=torch.contiguous_format)
        for i, segment in enumerate(memory.segments)
    }
    save_file(latents, folder / _LATENTS)
    facts = {
        "format": FORMAT,
        **facts,
        "segments": [
            {"poses": s.poses.tolist(), "times": s.times.tolist(), "origin": s.origin}
            for s in memory.segments
        ],
    }
    partial = folder / f".{_FACTS}.partial"
    partial.write_text(json.dumps(facts), encoding="utf-8")
    os.replace(partial, folder / _FACTS)


def read_state(folder: Path) -> tuple[MemoryBank, dict[str, Any]]:
    """Read what ``write_state`` wrote; anything unreadable is one ``ValueError``."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        latents = load_file(folder / _LATENTS)
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']}, accepted is {FORMAT}")
        segments = tuple(
            Segment(
                latents[f"segment.{i:06d}"],
                np.array(about["poses"], dtype=np.float64),
                np.array(about["times"], dtype=np.float64),
                about["origin"],
            )
            for i, about in enumerate(facts.pop("segments"))
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no readable state: {error}") from error
    return MemoryBank(segments), facts
