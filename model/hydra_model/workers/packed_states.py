# SPDX-License-Identifier: Apache-2.0
"""States that travel: facts as JSON, memory as safetensors that are named by their hash.

Every segment of a memory is a content of its own. States that follow each other share all but
the newest, so that only what the other side does not have yet is sent.
"""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from hydra_model.conditioning import latent_shape
from hydra_model.config import ModelConfig
from hydra_model.memory import MemoryBank, Segment
from hydra_model.state import State
from hydra_model.state_files import StateError
from hydra_model.state_parts import (
    ModelMismatch,
    check_model,
    segment_from_tensors,
    segments_to_tensors,
    state_facts,
    state_from_facts,
)

# Contents that a worker keeps beyond those in use.
KEPT_BYTES = 2**30


@dataclass(frozen=True)
class PackedState:
    """A state without its memory's contents: ``facts`` (JSON) name these by their hashes.

    ``hash`` is that of the facts, so it names all of the state.
    """

    hash: str
    facts: str

    def read(self) -> dict[str, Any]:
        """Return the facts; raises ``StateError`` where they are not those of the hash."""
        if _hash(self.facts.encode()) != self.hash:
            raise StateError(f"state {self.hash[:12]} was changed on its way")
        facts: dict[str, Any] = json.loads(self.facts)
        return facts


class Packer:
    """Packs states; remembers the hashes of the segments it has seen. Any thread may use it."""

    def __init__(self, config: ModelConfig, weights: str) -> None:
        self.config = config
        self.weights = weights
        self._hashes: weakref.WeakKeyDictionary[Segment, str] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def pack(self, state: State) -> PackedState:
        """Return a state as facts and hashes."""
        segments = state.memory.segments
        facts = {
            **state_facts(state, self.config.name, self.weights),
            "segments": [self.hash(segment) for segment in segments],
            "origins": [segment.origin for segment in segments],
        }
        text = json.dumps(facts)
        return PackedState(_hash(text.encode()), text)

    def contents(self, state: State, wanted: Iterable[str]) -> dict[str, bytes]:
        """Return the contents of a state's segments, of those whose hashes are wanted."""
        missing = set(wanted)
        return {
            self.hash(segment): _content(segment)
            for segment in state.memory.segments
            if self.hash(segment) in missing
        }

    def note(self, segment: Segment, hash: str) -> Segment:
        """Remember the hash that a segment came with; return the segment."""
        with self._lock:
            self._hashes[segment] = hash
        return segment

    def hash(self, segment: Segment) -> str:
        """Return the hash of a segment's content."""
        with self._lock:
            known = self._hashes.get(segment)
        if known is None:
            known = _hash(_content(segment))
            self.note(segment, known)
        return known

    def unpack(
        self, packed: PackedState, contents: Mapping[str, bytes], base: State, device: torch.device
    ) -> State:
        """Return a state that goes on from ``base`` with what ``contents`` holds.

        Its memory shares all segments of ``base``; the new latents stay in main memory until
        they are read onto ``device``. Raises ``StateError`` where it does not go on from there.
        """
        facts = self.checked(packed)
        names, origins = facts["segments"], facts["origins"]
        known = len(base.memory.segments)
        if names[:known] != [self.hash(segment) for segment in base.memory.segments]:
            raise StateError(f"state {packed.hash[:12]} does not go on from its beginning")
        memory = base.memory
        for name, origin in zip(names[known:], origins[known:], strict=True):
            memory = memory.add(self.open(name, contents.get(name), origin, device))
        return _state(packed, facts, memory)

    def open(self, name: str, content: bytes | None, origin: str, device: torch.device) -> Segment:
        """Return the segment of a content; raises ``StateError`` if it is not what it says."""
        if content is None:
            raise StateError(f"memory {name[:12]} is not known here; it has to be sent first")
        if _hash(content) != name:
            raise StateError(f"memory {name[:12]} was changed on its way")
        try:
            segment = segment_from_tensors(load(content), 0, origin, device, keep_on_host=True)
            expected = latent_shape(self.config, segment.latents.shape[1])
            if segment.latents.shape != expected:
                raise ValueError(
                    f"latents are {segment.latents.shape}; this model's are {expected}"
                )
        except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
            raise StateError(f"memory {name[:12]} cannot be read: {error}") from error
        return self.note(segment, name)

    def checked(self, packed: PackedState) -> dict[str, Any]:
        """Return a state's facts; raises ``StateError`` where it is of another model."""
        facts = packed.read()
        try:
            check_model(facts, self.config.name, self.weights)
        except ModelMismatch as error:
            raise StateError(f"state {packed.hash[:12]} is {error}") from error
        return facts


class StateCache:
    """The states that a worker was sent, by hash; the contents used last are kept.

    Args:
        packer: of the worker's model; others' states are refused.
        device: where latents are read onto.
        kept_bytes: of latents that stay beyond those of the state in use.
    """

    def __init__(
        self, packer: Packer, device: torch.device, *, kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._packer = packer
        self._device = device
        self._kept_bytes = kept_bytes
        self._segments: OrderedDict[str, Segment] = OrderedDict()  # used last comes last

    def missing(self, packed: PackedState) -> list[str]:
        """Return the hashes of a state's contents that are not here."""
        return [name for name in packed.read()["segments"] if name not in self._segments]

    def accept(self, packed: PackedState, contents: Mapping[str, bytes]) -> None:
        """Take contents of a state; raises ``StateError`` if one is not what its hash says."""
        facts = self._packer.checked(packed)
        origins = dict(zip(facts["segments"], facts["origins"], strict=True))
        for name, content in contents.items():
            if name not in origins:
                raise StateError(f"memory {name[:12]} is none of state {packed.hash[:12]}")
            self._segments[name] = self._packer.open(name, content, origins[name], self._device)
        for name in origins:
            if name in self._segments:
                self._segments.move_to_end(name)
        self._forget(len(origins))

    def open(self, packed: PackedState) -> State:
        """Return a state whose contents are here; raises ``StateError`` where they are not."""
        facts = self._packer.checked(packed)
        missing = [name[:12] for name in facts["segments"] if name not in self._segments]
        if missing:
            raise StateError(
                f"state {packed.hash[:12]} is not known here: {len(missing)} of its memory's "
                f"{len(facts['segments'])} contents have to be sent first"
            )
        for name in facts["segments"]:
            self._segments.move_to_end(name)
        memory = MemoryBank(self._segments[name] for name in facts["segments"])
        return _state(packed, facts, memory)

    def _forget(self, used: int) -> None:
        spare = list(self._segments)[: len(self._segments) - used]
        total = sum(self._segments[name].latents.bytes for name in spare)
        for name in spare:
            if total <= self._kept_bytes:
                break
            total -= self._segments.pop(name).latents.bytes


def _state(packed: PackedState, facts: dict[str, Any], memory: MemoryBank) -> State:
    try:
        return state_from_facts(facts, memory)
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"state {packed.hash[:12]} cannot be read: {error!r}") from error


def _content(segment: Segment) -> bytes:
    content: bytes = save(segments_to_tensors(0, [segment]))
    return content


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
