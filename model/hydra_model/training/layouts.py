# SPDX-License-Identifier: Apache-2.0
"""Which video frames a training sample shows: context clips, maybe with gaps, and a target."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

TEMPORAL_STRIDE = 4


class Clip(NamedTuple):
    """A run of ``latents`` latent frames, the first of which stands for video frame ``start``.

    With ``cut`` it was taken from within a longer clip: one latent frame more is encoded before
    it and dropped, so that its first covers four video frames, as memory's runs mostly do. For
    ``held`` video frames between it and the target the camera stood still.
    """

    start: int
    latents: int
    cut: bool = False
    held: int = 0

    @property
    def frames(self) -> range:
        """The video frames that are encoded."""
        first = self.start - TEMPORAL_STRIDE * self.cut
        return range(first, self.start + clip_frames(self.latents))

    @property
    def latent_frames(self) -> range:
        """The video frame that each latent frame stands for."""
        return range(self.start, self.start + clip_frames(self.latents), TEMPORAL_STRIDE)

    @property
    def previous_frames(self) -> list[int]:
        """The video frame that the latent frame before each stands for; else its own."""
        own = self.latent_frames
        return [own[0] - TEMPORAL_STRIDE * self.cut, *own[:-1]]


@dataclass(frozen=True)
class Layout:
    """Frames of one sample, counted from the first target frame (context is negative).

    ``clips`` of the context are oldest first; each is encoded on its own, as the simulator's
    chunks are. ``target_latents`` follow from frame 0.
    """

    clips: tuple[Clip, ...]
    target_latents: int

    @property
    def context_latents(self) -> int:
        return sum(clip.latents for clip in self.clips)

    def context_of(self, latents: Sequence[Tensor]) -> Tensor:
        """Return the context that the ``latents [B, C, T, h, w]`` of encoded clips make."""
        cut = [z[:, :, clip.cut :] for z, clip in zip(latents, self.clips, strict=True)]
        return torch.cat(cut, dim=2)

    def context_frames(self) -> list[int]:
        """Every encoded frame of the context, clip after clip."""
        return [frame for clip in self.clips for frame in clip.frames]

    def context_camera_frames(self) -> list[int]:
        """For each of ``context_frames``, the frame at whose place on its path the camera is."""
        return [frame + clip.held for clip in self.clips for frame in clip.frames]

    def target_frames(self) -> list[int]:
        return list(range(clip_frames(self.target_latents)))

    def context_latent_frames(self) -> list[int]:
        """The frame that each context latent stands for."""
        return [frame for clip in self.clips for frame in clip.latent_frames]

    def context_previous_frames(self) -> list[int]:
        """The frame that the latent frame before each in its clip stands for, else its own."""
        return [frame for clip in self.clips for frame in clip.previous_frames]

    def target_latent_frames(self) -> list[int]:
        return [TEMPORAL_STRIDE * i for i in range(self.target_latents)]


def clip_frames(latents: int) -> int:
    """Video frames of a clip of that many latent frames."""
    return 1 + TEMPORAL_STRIDE * (latents - 1)


def contiguous(
    clip_latents: tuple[int, ...], target_latents: int, *, cut_first: bool = False
) -> Layout:
    """Clips one right after the other, the last ending where the target begins."""
    clips: list[Clip] = []
    end = 0
    for latents in reversed(clip_latents):
        end -= clip_frames(latents)
        clips.append(Clip(end, latents))
    if cut_first:
        clips[-1] = clips[-1]._replace(cut=True)
    return Layout(tuple(reversed(clips)), target_latents)


def with_gaps(
    old: tuple[tuple[int, int], ...], recent: int, target_latents: int, *, held: bool = False
) -> Layout:
    """Runs out of former clips, a recent run, the target.

    ``old`` are (latent frames, video frames of the gap that follows), oldest first. With ``held``
    the camera stands still in the gaps while subjects walk on: what the runs show comes back as
    soon as it would without gaps.
    """
    layout = contiguous((recent,), target_latents, cut_first=True)
    clips = layout.clips
    for latents, gap in reversed(old):
        start = clips[0].start - gap - clip_frames(latents)
        still = clips[0].held + gap if held else 0
        clips = (Clip(start, latents, cut=True, held=still), *clips)
    return Layout(clips, target_latents)


def draw_layout(step: int, seed: int, chunk: int = 20, fps: float = 15.0) -> Layout:
    """Draw the layout of a training step; it depends on step and seed alone.

    Two fifths are what the simulator meets first (one full context clip). The others are what
    it meets later: contexts of short chunks, runs that memory's selection took out of the past
    up to a minute ago (a place; a place and where a subject was last seen), young memories. Most
    runs of the past show what comes back into view, as those do that are selected for it.
    """
    draw = random.Random(seed * 1_000_003 + step)
    short = max(1, chunk // 4)
    half, third, fifth = (_even(chunk * share) for share in (0.5, 0.3, 0.2))
    target = short if draw.random() < 0.2 else chunk

    def gap() -> int:
        longest = 60.0 if draw.random() < 0.4 else 10.0
        # No shorter than what a cut run is encoded after: one frame would have two cameras.
        return round(draw.uniform(TEMPORAL_STRIDE, longest * fps))

    kind = draw.random()
    if kind < 0.42:
        return contiguous((chunk,), target)
    if kind < 0.55:
        whole = draw.choice((1, 2, 4))  # short chunks; what precedes them is cut from a long one
        rest = chunk - whole * short
        if rest < 1:
            return contiguous((short,) * whole, target)
        return contiguous((rest, *(short,) * whole), target, cut_first=True)
    if kind < 0.62:
        return with_gaps(((half, gap()),), chunk - half, target)
    if kind < 0.69:
        rest = chunk - third - fifth
        return with_gaps(((third, gap()), (fifth, gap())), rest, target)
    if kind < 0.94:
        # As memory's policy divides its slots; its two runs are often neighbours.
        runs = draw.sample((half, fifth), 2)
        between = 0 if draw.random() < 0.5 else gap()
        old = ((runs[0], between), (runs[1], gap()))
        return with_gaps(old, chunk - half - fifth, target, held=True)
    return contiguous((draw.choice((fifth, third, half)),), chunk, cut_first=True)


def most_frames(chunk: int) -> int:
    """Return the most video frames, context and target, that ``draw_layout`` gives."""
    return clip_frames(chunk) + most_context_frames(chunk)


def most_context_frames(chunk: int) -> int:
    """Return the most video frames of a context that ``draw_layout`` gives."""
    clips = 4  # at most; each encodes one frame and a dropped latent frame on top of its stride
    return TEMPORAL_STRIDE * chunk + clips


def _even(count: float) -> int:
    """Return an even number of latent frames: memory is made of pairs of them."""
    return max(2, 2 * round(count / 2))
