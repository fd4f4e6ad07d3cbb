# SPDX-License-Identifier: Apache-2.0
"""Which frames a process computes, and what it gets of the others.

Frames are split evenly, in order. A process needs two kinds of foreign keys: those of the
frames next to its own, for the local windows, and the memory of all frames. The former are a few
frames, the latter an eighth of all keys; nothing else is sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.distributed as dist
from torch import Tensor

from hydra_model import attention as readable
from hydra_model.config import TransformerConfig


@dataclass(frozen=True)
class Plan:
    """The windows and the selection of a process's query frames.

    ``windows [T, W]`` and their ``starts`` count in the keys that ``neighbours`` returns;
    ``excluded [T, J]`` marks memory that lies in the window.
    """

    windows: Tensor
    starts: tuple[int, ...]
    excluded: Tensor
    count: int
    ragged: bool


class AllFrames:
    """One process computes all frames."""

    whole = True

    def own(self, frames: int) -> slice:
        """Return which of the frames are this process's."""
        return slice(0, frames)

    def neighbours(self, x: Tensor) -> Tensor:
        """Return ``x [B, own frames, ...]`` with the frames around that windows reach."""
        return x

    def gather(self, x: Tensor) -> Tensor:
        """Return all frames' part of ``x [B, own frames, ...]``, in order."""
        return x

    def first_key(self, frames: int) -> int:
        """Return the frame that the keys of ``neighbours`` begin with."""
        return 0

    def plan(
        self, config: TransformerConfig, frames: int, memory_frames: int, first: int,
        device: torch.device,
    ) -> Plan:  # fmt: skip
        """Return windows and selection for the own frames from their ``first`` on."""
        own = self.own(frames)
        return make_plan(
            config, frames, memory_frames, own.start + first, own.stop, self.first_key(frames),
            device,
        )  # fmt: skip


Frames = AllFrames
ALL_FRAMES = AllFrames()


class SplitFrames(AllFrames):
    """Each process of a group computes its share; ``reach`` frames on either side are fetched."""

    whole = False

    def __init__(self, group: dist.ProcessGroup | None, reach: int) -> None:
        self.group = group
        self.reach = reach
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def check(self, config: TransformerConfig, frames: int) -> None:
        """Raise ValueError where the frames cannot be split among the processes."""
        share, rest = divmod(frames, self.size)
        stride = config.memory_stride[0]
        window = min(config.window, frames)
        if rest or share % stride or share + self.reach < window or share < self.reach:
            raise ValueError(
                f"{frames} latent frames cannot be split among {self.size} GPUs: each needs as "
                f"many as the others, a multiple of {stride}, and {window - self.reach} or more"
            )

    def own(self, frames: int) -> slice:
        share = frames // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def neighbours(self, x: Tensor) -> Tensor:
        edges = torch.cat((x[:, : self.reach], x[:, x.shape[1] - self.reach :]), dim=1)
        around = self._all(edges)
        parts = [x]
        if self.rank > 0:
            parts.insert(0, around[self.rank - 1][:, self.reach :])
        if self.rank < self.size - 1:
            parts.append(around[self.rank + 1][:, : self.reach])
        return torch.cat(parts, dim=1)

    def gather(self, x: Tensor) -> Tensor:
        return torch.cat(self._all(x), dim=1)

    def first_key(self, frames: int) -> int:
        return self.own(frames).start - (self.reach if self.rank > 0 else 0)

    def _all(self, x: Tensor) -> list[Tensor]:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(self.size)]
        dist.all_gather(parts, x, group=self.group)
        return parts


@lru_cache(maxsize=16)
def make_plan(
    config: TransformerConfig,
    frames: int,
    memory_frames: int,
    first: int,
    stop: int,
    first_key: int,
    device: torch.device,
) -> Plan:
    """Return the plan of query frames ``first`` to ``stop``; kept, as shapes decide all of it."""
    stride = config.memory_stride[0]
    windows = readable.window_frames(frames, config.window, device)
    excluded = readable.memory_in_window(windows, memory_frames, stride)[first:stop]
    count, ragged = readable.admissible_memory(
        frames, config.window, memory_frames, stride, config.top_k
    )
    width = min(config.window, frames)
    starts = [max(0, min(f - width // 2, frames - width)) - first_key for f in range(first, stop)]
    return Plan(windows[first:stop] - first_key, tuple(starts), excluded, count, ragged)
