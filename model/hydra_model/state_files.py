# SPDX-License-Identifier: Apache-2.0
"""A world's state on disk: memory as safetensors, everything else as JSON beside them.

``state.json`` names the files that belong to it and is replaced in one go after they are
complete, so that a folder holds the old state or the new one at any moment. It holds checksums of
them and of itself; states of earlier versions, which have none, are read as they are.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hydra_model.config import ModelConfig
from hydra_model.latent_store import LatentStore
from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.state import State
from hydra_model.state_checksums import facts_checksum, file_checksum
from hydra_model.state_parts import (
    ModelMismatch,
    check_latents,
    check_model,
    segment_from_tensors,
    segments_to_tensors,
    state_facts,
    state_from_facts,
)

FORMAT = 2
FACTS = "state.json"
CHECKSUMS = "checksums"  # of the files
CHECKSUM = "checksum"  # of all other facts
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
    facts = state_facts(state, config.name, weights)
    write_state(folder, state.memory, {**facts, "about": about})


def load_state(
    folder: Path, config: ModelConfig, weights: str, *, device: torch.device, store: LatentStore
) -> State:
    """Read a state that ``save_state`` wrote of the same model and weights."""
    try:
        check_model(read_facts(folder), config.name, weights)
    except ModelMismatch as error:
        raise StateError(f"{folder} is {error}") from error

    def kept(latents: Latents) -> None:
        check_latents(latents, config)
        store.keep(latents)
        store.fit()

    memory, facts = read_state(folder, device, kept)
    try:
        return state_from_facts(facts, memory)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"{folder} holds no readable state: {error}") from error


def write_state(folder: Path, memory: MemoryBank, facts: dict[str, Any]) -> None:
    """Write a state in place of the one that the folder may hold; all or nothing."""
    tag = uuid.uuid4().hex[:12]
    existed = folder.exists()
    files: dict[str, int] = {}
    checksums: dict[str, int] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (first, group) in enumerate(_groups(memory.segments)):
            path = folder / f"memory-{tag}-{number:05d}.safetensors"
            save_file(segments_to_tensors(first, group), path)
            _sync(path)
            files[path.name] = path.stat().st_size
            checksums[path.name] = file_checksum(path)
        about = {
            "format": FORMAT,
            **facts,
            "files": files,
            CHECKSUMS: checksums,
            "origins": [segment.origin for segment in memory.segments],
        }
        about[CHECKSUM] = facts_checksum(about)
        partial = folder / f"state-{tag}.partial"
        partial.write_text(json.dumps(about), encoding="utf-8")
        _sync(partial)
        os.replace(partial, folder / FACTS)
        _sync(folder)
    except BaseException as error:
        _remove(folder, lambda name: tag in name)
        if not existed:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, (OSError, SafetensorError, TypeError, ValueError)):
            raise StateError(f"cannot write a state to {folder}: {error}") from error
        raise
    _remove(folder, lambda name: name not in files)


def read_facts(folder: Path) -> dict[str, Any]:
    """Read what a state says of itself, without its memory."""
    try:
        facts = _read_json(folder / FACTS)
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise ValueError(f"{FACTS} is not of format {FORMAT}")
        checksum = facts.pop(CHECKSUM, None)
        if checksum is not None and checksum != facts_checksum(facts):
            raise ValueError(f"{FACTS} changed since it was written")
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
        checksums = facts.pop(CHECKSUMS, {})
        for name in facts.pop("files"):
            if name in checksums and checksums[name] != file_checksum(folder / name):
                raise ValueError(f"{name} changed since it was written")
            tensors = load_file(folder / name)
            while f"{len(segments):06d}.latents" in tensors:
                number = len(segments)
                segment = segment_from_tensors(tensors, number, origins[number], device)
                kept(segment.latents)
                segments.append(segment)
        if len(segments) != len(origins):
            raise ValueError(f"{len(segments)} of {len(origins)} segments are there")
        return MemoryBank(segments), facts
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise StateError(f"{folder} holds no readable state: {error}") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error


def _groups(segments: Sequence[Segment]) -> Iterator[tuple[int, list[Segment]]]:
    """Split segments into neighbours that fill a file; with the number of the first."""
    group: list[Segment] = []
    for number, segment in enumerate(segments):
        group.append(segment)
        if sum(s.latents.bytes for s in group) >= FILE_BYTES or number == len(segments) - 1:
            yield number + 1 - len(group), group
            group = []


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
