# SPDX-License-Identifier: Apache-2.0
"""Where things that moved went after they were last seen, and when they may be seen again."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hydra_model.moving import Sightings

Array = npt.NDArray[np.float64]

_SAME_ANGLE = math.radians(15)  # between two sightings of the same thing
_SAME_COLOUR = 70.0  # levels of 255
_LONGEST_BLINK = 1.0  # seconds between two sightings of the same thing
_LEAST_SIGHTINGS = 3
_FITTED = 8  # last sightings that the motion is told from
_FASTEST = 0.6  # radians a second; a fit that is faster is of different things
_FORESIGHT = 4.0  # seconds after the last sighting that the thing is looked for in the frames
_MARGIN = math.radians(8)  # around a view that a predicted direction may miss it


@dataclass(frozen=True, eq=False)
class Track:
    """One thing on its way: direction [3] at a time, and its change per second [3].

    A thing that walks a straight line is in the direction ``direction + velocity * elapsed``.
    ``frame`` is that of its last sighting.
    """

    frame: int
    time: float
    direction: Array
    velocity: Array

    def towards(self, times: Array) -> Array:
        """Return the predicted directions [T, 3], not of unit length."""
        return self.direction + self.velocity * (times - self.time)[:, None]


def find_tracks(sightings: Sightings, times: Array) -> list[Track]:
    """Join sightings, whose frames have ``times [N]`` seconds, to things that move.

    Sightings are ordered by frame; each goes on the chain that is nearest in direction and colour.
    """
    chains: list[list[int]] = []
    alive: list[list[int]] = []
    frames, starts = np.unique(sightings.frame, return_index=True)
    stops = np.append(starts, len(sightings))[1:]
    for frame, start, stop in zip(frames, starts, stops, strict=True):
        oldest = times[frame] - _LONGEST_BLINK
        alive = [chain for chain in alive if times[sightings.frame[chain[-1]]] >= oldest]
        distance = _distances(sightings, slice(start, stop), [chain[-1] for chain in alive])
        for index, row in enumerate(distance, start=start):
            best = int(row.argmin()) if len(row) else 0
            if len(row) and row[best] < np.inf:
                alive[best].append(index)
                distance[:, best] = np.inf  # of a frame's sightings, one is of that thing
            else:
                alive.append([index])
                chains.append(alive[-1])
    long = [chain for chain in chains if len(chain) >= _LEAST_SIGHTINGS]
    fitted = (_fitted(chain, sightings, times) for chain in long)
    return [track for track in fitted if track is not None]


def expected(track: Track, poses: Array, times: Array, fov_x: float, aspect: float) -> bool:
    """Say whether cameras [k, 4, 4] may see the thing at any of the times [k] (seconds)."""
    return bool(_in_view(track, poses, times, fov_x, aspect, _MARGIN).any())


def last_view(track: Track, poses: Array, times: Array, fov_x: float, aspect: float) -> int:
    """Return the last of all remembered frames [N] that still shows the thing.

    Near the edge of a picture nothing is found, so from the last sighting on its predicted
    direction decides.
    """
    stop = int(np.searchsorted(times, track.time + _FORESIGHT))
    after = slice(track.frame + 1, max(stop, track.frame + 1))
    shown = _in_view(track, poses[after], times[after], fov_x, aspect, 0.0)
    return track.frame + (len(shown) if shown.all() else int(shown.argmin()))


def _distances(sightings: Sightings, new: slice, last: list[int]) -> Array:
    """Return how far new sightings are from others [n, m]; infinite where they are not the same."""
    cosine = sightings.direction[new] @ sightings.direction[last].T
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    change = sightings.colour[new][:, None] - sightings.colour[last][None]
    colour = np.abs(change).max(-1)
    same = (angle < _SAME_ANGLE) & (colour < _SAME_COLOUR)
    return np.where(same, angle / _SAME_ANGLE + colour / _SAME_COLOUR, np.inf)


def _fitted(chain: list[int], sightings: Sightings, times: Array) -> Track | None:
    """Fit a straight walk to the last sightings; None if they do not make one."""
    last = chain[-_FITTED:]
    frames, directions = sightings.frame[last], sightings.direction[last]
    seconds = times[frames] - times[frames[-1]]
    spread = seconds - seconds.mean()
    slope = spread @ (directions - directions.mean(0)) / (spread @ spread)
    if np.linalg.norm(slope) > _FASTEST:
        return None
    now = directions.mean(0) - slope * seconds.mean()
    return Track(int(frames[-1]), float(times[frames[-1]]), now, slope)


def _in_view(
    track: Track, poses: Array, times: Array, fov_x: float, aspect: float, margin: float
) -> npt.NDArray[np.bool_]:
    local = np.einsum("kij,ki->kj", poses[:, :3, :3], track.towards(times))
    across = np.arctan2(local[:, 0], local[:, 2])
    down = np.arctan2(local[:, 1], local[:, 2])
    fov_y = 2 * math.atan(math.tan(fov_x / 2) * aspect)
    return (np.abs(across) <= fov_x / 2 + margin) & (np.abs(down) <= fov_y / 2 + margin)
