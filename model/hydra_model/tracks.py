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
    """Join sightings, whose frames have ``times [N]`` seconds, to things that move."""
    chains: list[list[int]] = []
    alive: list[list[int]] = []
    for index, frame in enumerate(sightings.frame):
        alive = [
            chain
            for chain in alive
            if times[frame] - times[sightings.frame[chain[-1]]] <= _LONGEST_BLINK
        ]
        chain = _continued(alive, sightings, index)
        if chain is not None:
            chain.append(index)
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


def _continued(chains: list[list[int]], sightings: Sightings, index: int) -> list[int] | None:
    """Return the chain that a sighting goes on, the nearest in direction and colour."""
    best, least = None, math.inf
    for chain in chains:
        last = chain[-1]
        if sightings.frame[last] == sightings.frame[index]:
            continue
        cosine = float(sightings.direction[index] @ sightings.direction[last])
        angle = math.acos(min(1.0, max(-1.0, cosine)))
        colour = float(np.abs(sightings.colour[index] - sightings.colour[last]).max())
        distance = angle / _SAME_ANGLE + colour / _SAME_COLOUR
        if angle < _SAME_ANGLE and colour < _SAME_COLOUR and distance < least:
            best, least = chain, distance
    return best


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
