# SPDX-License-Identifier: Apache-2.0
"""A world's state on disk: memory as safetensors, everything else as JSON beside them.

``state.json`` names the files that belong to it and is replaced in one go after they are
complete, so that a folder holds the old state or the new one at any moment.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hydra_model.conditioning import latent_shape
from hydra_model.config import ModelConfig
from hydra_model.latent_store import LatentStore
from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.moving import Sightings
from hydra_model.state import State

FORMAT = 2
FACTS = "state.json"
# Latents in one file: bounds the main memory that saving and loading need.
FILE_BYTES = 64 * 2**20


class StateError(ValueError):
    """A state that cannot be written, read or used, with the folder and the reason."""


def save_state(
    folder: Path, state: State, config: ModelConfig, weights: str, about: dict[str, Any]
) -> None:
    """Write a state of the model ``config`` with the fingerprint ``weights``; see ``write_state``.

    ``about`` is kept with it, for ``read_facts``.
    """
    facts = {
        "model": config.name, "weights": weights, "about": about,
        "pose": state.pose.tolist(), "time": state.time, "seed": state.seed,
        "chunks": state.chunks, "prompt": state.prompt, "fov_x": state.fov_x,
        "memory_frames": len(state.memory), "memory_bytes": state.memory.bytes,
    }  # fmt: skip
    write_state(folder, state.memory, facts)


def load_state(
    folder: Path, config: ModelConfig, weights: str, *, device: torch.device, store: LatentStore
) -> State:
    """Read a state that ``save_state`` wrote of the same model and weights."""
    facts = read_facts(folder)
    if facts.get("model") != config.name:
        raise StateError(
            f"{folder} is a state of model {facts.get('model')!r}; this is {config.name!r}"
        )
    if facts.get("weights") != weights:
        raise StateError(
            f"{folder} is a state of other weights of model {config.name!r} "
            f"({facts.get('weights')}); these are {weights}"
        )

    def kept(latents: Latents) -> None:
        expected = latent_shape(config, latents.shape[1])
        if latents.shape != expected:
            raise ValueError(f"latents are {latents.shape}; this model's are {expected}")
        store.keep(latents)
        store.fit()

    memory, facts = read_state(folder, device, kept)
    try:
        return State(
            memory=memory, pose=np.array(facts["pose"], dtype=np.float64).reshape(4, 4),
            time=float(facts["time"]), seed=int(facts["seed"]), chunks=int(facts["chunks"]),
            prompt=str(facts["prompt"]), fov_x=float(facts["fov_x"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{folder} holds no readable state: {error}") from error


def write_state(folder: Path, memory: MemoryBank, facts: dict[str, Any]) -> None:
    """Write a state in place of the one that the folder may hold; all or nothing."""
    tag = uuid.uuid4().hex[:12]
    existed = folder.exists()
    files: dict[str, int] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (first, group) in enumerate(_groups(memory.segments)):
            path = folder / f"memory-{tag}-{number:05d}.safetensors"
            save_file(_tensors(first, group), path)
            _sync(path)
            files[path.name] = path.stat().st_size
        about = {
            "format": FORMAT,
            **facts,
            "files": files,
            "origins": [segment.origin for segment in memory.segments],
        }
        partial = folder / f"state-{tag}.partial"
        partial.write_text(json.dumps(about), encoding="utf-8")
        _sync(partial)
        os.replace(partial, folder / FACTS)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        _remove(folder, lambda name: tag in name)
        if not existed:
            with suppress(OSError):
                folder.rmdir()
        raise StateError(f"cannot write a state to {folder}: {error}") from error
    _remove(folder, lambda name: name not in files)


def read_facts(folder: Path) -> dict[str, Any]:
    """Read what a state says of itself, without its memory."""
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise ValueError(f"{FACTS} is not of format {FORMAT}")
        for name, size in facts["files"].items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} was cut short or changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"{folder} holds no readable state: {error}") from error
    return facts


def read_state(
    folder: Path,
    device: torch.device | None = None,
    kept: Callable[[Latents], object] = lambda latents: None,
) -> tuple[MemoryBank, dict[str, Any]]:
    """Read what ``write_state`` wrote; anything unreadable is one ``StateError``.

    Latents go to ``device`` (default: they stay on the CPU); ``kept`` is called with those of
    each segment as soon as they are read, so that they can be moved on.
    """
    facts = read_facts(folder)
    segments: list[Segment] = []
    try:
        origins = facts.pop("origins")
        for name in facts.pop("files"):
            tensors = load_file(folder / name)
            while f"{len(segments):06d}.latents" in tensors:
                segment = _segment(tensors, len(segments), origins[len(segments)], device)
                kept(segment.latents)
                segments.append(segment)
        if len(segments) != len(origins):
            raise ValueError(f"{len(segments)} of {len(origins)} segments are there")
        return MemoryBank(segments), facts
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise StateError(f"{folder} holds no readable state: {error}") from error


def _groups(segments: Sequence[Segment]) -> Iterator[tuple[int, list[Segment]]]:
    """Split segments into neighbours that fill a file; with the number of the first."""
    group: list[Segment] = []
    for number, segment in enumerate(segments):
        group.append(segment)
        if sum(s.latents.bytes for s in group) >= FILE_BYTES or number == len(segments) - 1:
            yield number + 1 - len(group), group
            group = []


def _tensors(first: int, group: list[Segment]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number, segment in enumerate(group, start=first):
        # Copies: the format refuses views, which latents may be.
        latents = segment.latents.read().cpu().clone(memory_format=torch.contiguous_format)
        parts = {
            "latents": latents,
            "poses": torch.from_numpy(np.array(segment.poses)),
            "times": torch.from_numpy(np.array(segment.times)),
            "thumbnails": torch.from_numpy(np.array(segment.thumbnails)),
            "sightings.frame": torch.from_numpy(segment.sightings.frame),
            "sightings.direction": torch.from_numpy(segment.sightings.direction),
            "sightings.colour": torch.from_numpy(segment.sightings.colour),
        }
        tensors.update({f"{number:06d}.{name}": value for name, value in parts.items()})
    return tensors


def _segment(
    tensors: dict[str, Tensor], number: int, origin: Any, device: torch.device | None
) -> Segment:
    def array(name: str) -> Any:
        # A copy: a view would keep the memory of the whole file.
        return tensors[f"{number:06d}.{name}"].clone().numpy()

    if origin not in ("observed", "imagined"):
        raise ValueError(f"segment {number} is {origin!r}; accepted: observed, imagined")
    latents = tensors[f"{number:06d}.latents"].clone()
    return Segment(
        Latents(latents if device is None else latents.to(device)),
        array("poses"), array("times"), origin, array("thumbnails"),
        Sightings(*(array(f"sightings.{name}") for name in ("frame", "direction", "colour"))),
    )  # fmt: skip


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path, unwanted: Callable[[str], bool]) -> None:
    """Remove files of this format whose names are unwanted, as far as that is possible."""
    with suppress(OSError):
        for path in [*folder.glob("memory-*.safetensors"), *folder.glob("state-*.partial")]:
            if unwanted(path.name):
                path.unlink(missing_ok=True)
