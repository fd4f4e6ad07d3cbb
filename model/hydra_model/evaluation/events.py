# SPDX-License-Identifier: Apache-2.0
"""When subjects are seen, leave the view and come back, read off the true masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hydra_model.procedural.episodes import MINIMUM_PIXELS, find_reentries

STAYED_SPANS = {"0-1 s": (0.0, 1.0), "1-2.5 s": (1.0, 2.5), "2.5 s on": (2.5, np.inf)}


@dataclass(frozen=True)
class Event:
    """A subject (from 0) that comes back in a world after ``unseen`` seconds.

    ``frames`` are the target frames of the first second back in which it is visible.
    """

    world: int
    subject: int
    unseen: float
    frames: tuple[int, ...]


def minimum_pixels(height: int, width: int) -> int:
    """Return how many pixels a subject must show to count as visible."""
    return max(1, round(MINIMUM_PIXELS * height * width / 96 / 160))


def find_events(
    visible: NDArray[np.bool_], context_frames: int, fps: float, *, span: float = 1.0
) -> list[Event]:
    """Find all re-entries in ``visible`` [B, S, T], context and target in one row.

    A subject comes back when it was seen in the context, was not visible for at least 1 s
    (outside the view or hidden) and is visible in the target again. ``span`` seconds from there
    on belong to the event.
    """
    events = []
    length = round(span * fps)
    for world, subjects in enumerate(visible):
        for subject, seen in enumerate(subjects):
            target = seen[context_frames:]
            for frame, unseen in find_reentries(seen, context_frames, fps):
                frames = range(frame, min(frame + length, len(target)))
                shown = tuple(f for f in frames if target[f])
                events.append(Event(world, subject, unseen, shown))
    return events


def stayed_in_view(visible: NDArray[np.bool_], context_frames: int) -> NDArray[np.bool_]:
    """Return bool [B, S, Tt]: visible in the last context frame and ever since, up to here."""
    since = visible[..., context_frames - 1 :]
    return np.logical_and.accumulate(since, axis=-1)[..., 1:]
