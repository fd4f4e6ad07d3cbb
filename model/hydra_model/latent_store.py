# SPDX-License-Identifier: Apache-2.0
"""Where remembered latents are kept: on the device, in main memory, on disk.

Latents never change and are shared by all snapshots that remember them; only their place
changes. The oldest that nobody asked for lately move first, and none is ever lost.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

Place = Literal["device", "host", "disk"]
_NAME = "latents"


class SpillError(OSError):
    """Memory had to move to disk and could not; it stays where it was, and nothing is lost."""


@dataclass(frozen=True, kw_only=True)
class MemoryLimits:
    """How many bytes of latents may stay on the device and in main memory; None is no limit.

    What is over ``device_bytes`` moves to main memory, what is over ``host_bytes`` to files in
    ``folder``. On a CPU, main memory is all there is.
    """

    device_bytes: int | None = None
    host_bytes: int | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        for name in ("device_bytes", "host_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; accepted: 0 or more, or None for no limit")
        if self.host_bytes is not None and self.folder is None:
            raise ValueError("host_bytes is limited, so a folder to spill to is needed")


@dataclass(frozen=True, kw_only=True)
class MemoryUsage:
    """Bytes of latents by where they are."""

    device_bytes: int = 0
    host_bytes: int = 0
    disk_bytes: int = 0


class Latents:
    """Latent frames ``[C, k, h, w]`` of one clip, wherever they are kept at the moment.

    They are read onto ``device``, by default where they were made. Reading does not move
    them, and is safe while another thread does.
    """

    def __init__(self, tensor: Tensor, device: torch.device | None = None) -> None:
        self.shape = tuple(tensor.shape)
        self.device = device or tensor.device
        self.bytes = tensor.numel() * tensor.element_size()
        self.used = time.monotonic_ns()
        # Replaced as a whole, never changed: a reader holds on to what it found.
        self._kept: Tensor | Path = tensor

    @property
    def place(self) -> Place:
        kept = self._kept
        if isinstance(kept, Path):
            return "disk"
        return "host" if kept.device.type == "cpu" else "device"

    def read(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Return latent frames ``start`` to ``stop`` (one past the last) on the device."""
        kept = self._kept
        self.used = time.monotonic_ns()
        stop = self.shape[1] if stop is None else stop
        if isinstance(kept, Path):
            try:
                with safe_open(kept, framework="pt") as file:
                    frames = file.get_slice(_NAME)[:, start:stop]
            except (OSError, SafetensorError) as error:
                raise SpillError(f"memory that was spilled to {kept} is gone: {error}") from error
        else:
            frames = kept[:, start:stop]
        return frames.to(self.device)

    def to_host(self) -> None:
        """Move from the device to main memory."""
        kept = self._kept
        if isinstance(kept, Tensor):
            self._kept = kept.to("cpu")

    def to_disk(self, folder: Path) -> None:
        """Move to a file, which lives as long as somebody remembers these latents."""
        kept = self._kept
        if isinstance(kept, Path):
            return
        path = folder / f"latents-{uuid.uuid4().hex}.safetensors"
        partial = path.with_suffix(".partial")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A copy: the format refuses views.
            save_file({_NAME: kept.cpu().clone(memory_format=torch.contiguous_format)}, partial)
            os.replace(partial, path)
        except (OSError, SafetensorError) as error:
            _remove(partial)
            raise SpillError(
                f"cannot spill {self.bytes} bytes of memory to {folder}: {error}"
            ) from error
        self._kept = path
        weakref.finalize(self, _remove, path)


class LatentStore:
    """Keeps the latents of a session, and of all its snapshots, within limits."""

    def __init__(self, limits: MemoryLimits | None = None) -> None:
        self.limits = limits or MemoryLimits()
        self._kept: weakref.WeakSet[Latents] = weakref.WeakSet()
        self._lock = threading.Lock()

    def keep(self, latents: Latents) -> Latents:
        """Watch over latents for as long as somebody holds them; return them."""
        with self._lock:
            self._kept.add(latents)
        return latents

    def usage(self) -> MemoryUsage:
        """Return what all that is watched over takes."""
        with self._lock:
            return usage(list(self._kept))

    def fit(self) -> None:
        """Move what is over the limits, least recently used first.

        Raises ``SpillError`` where the disk does not take it; the rest stays where it was.
        """
        limits = self.limits
        if limits.device_bytes is None and limits.host_bytes is None:
            return
        with self._lock:
            oldest_first = sorted(self._kept, key=lambda latents: latents.used)
            for latents in _excess(oldest_first, "device", limits.device_bytes):
                latents.to_host()
            for latents in _excess(oldest_first, "host", limits.host_bytes):
                assert limits.folder is not None  # MemoryLimits sees to it
                latents.to_disk(limits.folder)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def usage(kept: list[Latents]) -> MemoryUsage:
    """Add up the bytes of latents by place."""
    total = {"device": 0, "host": 0, "disk": 0}
    for latents in kept:
        total[latents.place] += latents.bytes
    return MemoryUsage(
        device_bytes=total["device"], host_bytes=total["host"], disk_bytes=total["disk"]
    )


def _excess(oldest_first: list[Latents], place: Place, limit: int | None) -> list[Latents]:
    """Return what has to leave a place, in order, until the rest fits."""
    if limit is None:
        return []
    there = [latents for latents in oldest_first if latents.place == place]
    over = sum(latents.bytes for latents in there) - limit
    leaving = []
    for latents in there:
        if over <= 0:
            break
        leaving.append(latents)
        over -= latents.bytes
    return leaving
