# SPDX-License-Identifier: Apache-2.0
"""What a world remembers: every committed latent frame with its pose and time.

Pure data. A bank never changes: adding to it gives a new bank that shares all storage with
the old one, so that a snapshot is the bank itself.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hydra_model.latent_store import Latents, MemoryLimits, MemoryUsage, usage
from hydra_model.moving import STEP, Sightings, find_moving

__all__ = [
    "Context", "Latents", "MemoryBank", "MemoryLimits", "MemorySettings", "MemoryUsage",
    "Origin", "Segment",
]  # fmt: skip

Origin = Literal["observed", "imagined"]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MemorySettings:
    """Which frames condition a chunk, and where memory is kept.

    ``policy`` is one of ``selection.POLICIES``, or "default": what suits the model's training.
    """

    policy: str = "default"
    limits: MemoryLimits = field(default_factory=MemoryLimits)


@dataclass(frozen=True, eq=False)
class Segment:
    """Latent frames that were encoded or imagined as one clip.

    ``latents`` hold ``[C, k, h, w]``, ``poses [k, 4, 4]`` are optical camera-to-world in metres,
    ``times [k]`` simulated seconds (of the last video frame that each latent frame covers, as
    are the poses), ``thumbnails`` uint8 ``[k, th, tw, 3]`` RGB (0x0 pixels where none are kept),
    ``sightings`` what moved in them, numbered from the segment's first frame.
    """

    latents: Latents
    poses: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]
    origin: Origin
    thumbnails: npt.NDArray[np.uint8] = field(
        default_factory=lambda: np.zeros((0, 0, 0, 3), np.uint8)
    )
    sightings: Sightings = field(default_factory=Sightings.none)

    def __post_init__(self) -> None:
        count = self.latents.shape[1]
        if not self.thumbnails.size:
            object.__setattr__(self, "thumbnails", np.zeros((count, 0, 0, 3), np.uint8))
        if (
            self.poses.shape != (count, 4, 4)
            or self.times.shape != (count,)
            or len(self.thumbnails) != count
        ):
            raise ValueError(
                f"a segment of {count} latent frames got poses {self.poses.shape}, times "
                f"{self.times.shape} and {len(self.thumbnails)} thumbnails; accepted: "
                f"({count}, 4, 4), ({count},) and {count}"
            )

    def __len__(self) -> int:
        """Return the number of latent frames."""
        return len(self.times)


@dataclass(frozen=True)
class Context:
    """Latent frames ``[C, k, h, w]`` chosen to condition a chunk, oldest first.

    ``previous [k, 4, 4]`` are the poses of the frames that came before them in their clips, of
    the first of a clip its own.
    """

    latents: Tensor
    poses: npt.NDArray[np.float64]
    previous: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]


class MemoryBank:
    """All segments since the world was reset, oldest first; frames are numbered from 0."""

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self._columns = _Columns()
        self._frames = 0
        self.segments: tuple[Segment, ...] = ()
        for segment in segments:
            self._take(self, segment)

    def __len__(self) -> int:
        """Return the number of latent frames."""
        return self._frames

    @property
    def poses(self) -> npt.NDArray[np.float64]:
        """Optical camera-to-world of all frames, ``[N, 4, 4]``, not to be written to."""
        return self._columns.poses[: self._frames]

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """Simulated seconds of all frames, ``[N]``, not to be written to."""
        return self._columns.times[: self._frames]

    @property
    def observed(self) -> npt.NDArray[np.bool_]:
        """Which frames were given and not imagined, ``[N]``, not to be written to."""
        return self._columns.observed[: self._frames]

    @property
    def usage(self) -> MemoryUsage:
        """Bytes that the latents take, by place."""
        return usage([segment.latents for segment in self.segments])

    @property
    def bytes(self) -> int:
        """Bytes that the latents take, wherever they are."""
        return sum(segment.latents.bytes for segment in self.segments)

    def add(self, segment: Segment) -> MemoryBank:
        """Return a bank that also holds ``segment``; this one stays as it is."""
        if self._frames and segment.times[0] <= self.times[-1]:
            raise ValueError(
                f"a segment that starts at {segment.times[0]:.3f} s cannot follow memory that "
                f"ends at {self.times[-1]:.3f} s"
            )
        longer = MemoryBank()
        longer._take(self, segment)
        return longer

    def gather(self, indices: npt.ArrayLike) -> Context:
        """Return the frames of the given numbers, in the order given, wherever they are kept."""
        chosen = np.asarray(indices, dtype=np.int64)
        if chosen.ndim != 1 or len(chosen) == 0:
            raise ValueError(f"indices have shape {chosen.shape}; accepted: [n], n at least 1")
        pieces = [
            self.segments[segment].latents.read(start, stop)
            for segment, start, stop in self._runs(chosen)
        ]
        first = np.isin(chosen, self._columns.starts[: len(self.segments)])
        return Context(
            latents=torch.cat(pieces, dim=1),
            poses=self.poses[chosen],
            previous=self.poses[np.where(first, chosen, chosen - 1)],
            times=self.times[chosen],
        )

    def thumbnails(self, indices: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Return small pictures of the frames of the given numbers, uint8 [n, th, tw, 3] RGB."""
        runs = self._runs(np.asarray(indices, dtype=np.int64))
        pictures = [self.segments[s].thumbnails[start:stop] for s, start, stop in runs]
        return np.concatenate(pictures) if pictures else np.zeros((0, 0, 0, 3), np.uint8)

    def sightings(self, since: float) -> Sightings:
        """Return what moved in the segments that reach beyond ``since`` (simulated seconds)."""
        frame, direction, colour = [], [], []
        for segment, start in zip(
            reversed(self.segments), self._columns.starts[: len(self.segments)][::-1], strict=True
        ):
            if segment.times[-1] < since:
                break
            frame.append(segment.sightings.frame + start)
            direction.append(segment.sightings.direction)
            colour.append(segment.sightings.colour)
        if not frame:
            return Sightings.none()
        return Sightings(*(np.concatenate(part[::-1]) for part in (frame, direction, colour)))

    def watched(self, segment: Segment, fov_x: float) -> Segment:
        """Return a segment that is to follow, with what moved in it (``moving``)."""
        before = np.arange(max(0, self._frames - 2 * STEP), self._frames)
        known = self.thumbnails(before)
        if not segment.thumbnails.size or (
            len(before) and known.shape[1:] != segment.thumbnails.shape[1:]
        ):
            return segment
        pictures = [known, segment.thumbnails] if len(before) else [segment.thumbnails]
        found = find_moving(
            np.concatenate(pictures),
            np.concatenate([self.poses[before], segment.poses]),
            np.concatenate([self.times[before], segment.times]),
            fov_x,
            first=len(before),
        )
        return replace(segment, sightings=found)

    def recent(self, count: int, multiple: int = 1) -> Indices:
        """Return the numbers of the newest frames: at most ``count``, a multiple of ``multiple``.

        The memory tokenizer joins frames in groups of ``multiple``; a group that is not full
        would be dropped from its newest end, so the oldest frames are left out instead.
        """
        count = min(count, self._frames)
        count -= count % multiple
        if count == 0:
            raise ValueError(
                f"the memory holds {self._frames} latent frames; at least {multiple} are needed"
            )
        return np.arange(self._frames - count, self._frames)

    def _runs(self, indices: Indices) -> list[tuple[int, int, int]]:
        """Split numbers into runs of neighbours: (segment, first, one past the last in it)."""
        if len(indices) and (indices.min() < 0 or indices.max() >= self._frames):
            raise ValueError(f"indices {indices.tolist()}; accepted: 0 to {self._frames - 1}")
        starts = self._columns.starts[: len(self.segments)]
        owners = np.searchsorted(starts, indices, side="right") - 1
        runs: list[tuple[int, int, int]] = []
        for owner, index in zip(owners.tolist(), indices.tolist(), strict=True):
            local = index - int(starts[owner])
            if runs and runs[-1][0] == owner and runs[-1][2] == local:
                runs[-1] = (owner, runs[-1][1], local + 1)
            else:
                runs.append((owner, local, local + 1))
        return runs

    def _take(self, shorter: MemoryBank, segment: Segment) -> None:
        """Become ``shorter`` and one more segment."""
        columns = shorter._columns
        self._columns = columns.extended(shorter._frames, len(shorter.segments), segment)
        self._frames = shorter._frames + len(segment)
        self.segments = (*shorter.segments, segment)


class _Columns:
    """Facts of all frames in arrays with room to grow, shared by all banks of one history.

    A bank looks at its own length of them. The newest bank's successor writes behind that; one
    that branches off earlier gets a copy.
    """

    def __init__(self, frames: int = 64, segments: int = 16) -> None:
        self.poses = np.zeros((frames, 4, 4))
        self.times = np.zeros(frames)
        self.observed = np.zeros(frames, dtype=np.bool_)
        self.starts = np.zeros(segments, dtype=np.int64)
        self.used = 0
        self.lock = threading.Lock()

    def extended(self, frames: int, segments: int, segment: Segment) -> _Columns:
        """Return columns whose first ``frames`` are these and that go on with ``segment``."""
        stop = frames + len(segment)
        with self.lock:
            target = self
            if self.used != frames or stop > len(self.times) or segments >= len(self.starts):
                target = _Columns(max(64, 2 * stop), max(16, 2 * (segments + 1)))
                for name in ("poses", "times", "observed"):
                    getattr(target, name)[:frames] = getattr(self, name)[:frames]
                target.starts[:segments] = self.starts[:segments]
            target.poses[frames:stop] = segment.poses
            target.times[frames:stop] = segment.times
            target.observed[frames:stop] = segment.origin == "observed"
            target.starts[segments] = frames
            target.used = stop
        return target
