# SPDX-License-Identifier: Apache-2.0
"""Which video frames a training sample shows: context clips, maybe with gaps, and a target."""

from __future__ import annotations

import random
from dataclasses import dataclass

TEMPORAL_STRIDE = 4


@dataclass(frozen=True)
class Layout:
    """Frames of one sample, counted from the first target frame (context is negative).

    ``clips`` are (first frame, latent frames) of the context clips, oldest first; each was
    encoded on its own, as the simulator's chunks are. ``target_latents`` follow from frame 0.
    """

    clips: tuple[tuple[int, int], ...]
    target_latents: int

    @property
    def context_latents(self) -> int:
        return sum(latents for _, latents in self.clips)

    def context_frames(self) -> list[int]:
        """Every frame of the context, clip after clip."""
        return [f for start, k in self.clips for f in range(start, start + clip_frames(k))]

    def target_frames(self) -> list[int]:
        return list(range(clip_frames(self.target_latents)))

    def context_latent_frames(self) -> list[int]:
        """The frame that each context latent stands for."""
        return [start + TEMPORAL_STRIDE * i for start, k in self.clips for i in range(k)]

    def target_latent_frames(self) -> list[int]:
        return [TEMPORAL_STRIDE * i for i in range(self.target_latents)]


def clip_frames(latents: int) -> int:
    """Video frames of a clip of that many latent frames."""
    return 1 + TEMPORAL_STRIDE * (latents - 1)


def contiguous(clip_latents: tuple[int, ...], target_latents: int) -> Layout:
    """Clips one right after the other, the last ending where the target begins."""
    clips, end = [], 0
    for latents in reversed(clip_latents):
        end -= clip_frames(latents)
        clips.append((end, latents))
    return Layout(tuple(reversed(clips)), target_latents)


def with_gap(old: int, recent: int, gap: int, target_latents: int) -> Layout:
    """An old clip, ``gap`` frames that nobody remembers, a recent clip, the target."""
    near = contiguous((recent,), target_latents)
    start = near.clips[0][0] - gap - clip_frames(old)
    return Layout(((start, old), *near.clips), target_latents)


def draw_layout(step: int, seed: int, chunk: int = 20, fps: float = 15.0) -> Layout:
    """Draw the layout of a training step; it depends on step and seed alone.

    Most samples are what the simulator meets first (one full context clip); others are what
    it meets later: short chunks, contexts of many short chunks, gaps of up to a minute, and
    young memories.
    """
    draw = random.Random(seed * 1_000_003 + step)
    short = chunk // 4
    target = short if draw.random() < 0.2 else chunk
    kind = draw.random()
    if kind < 0.55:
        return contiguous((chunk,), target)
    if kind < 0.72:
        return contiguous((short,) * 4, target)
    if kind < 0.93:
        longest = 60.0 if draw.random() < 0.4 else 10.0
        return with_gap(chunk // 2, chunk // 2, round(draw.uniform(0, longest * fps)), target)
    return contiguous((draw.choice((4, 6, 6, 10, 14)),), chunk)
