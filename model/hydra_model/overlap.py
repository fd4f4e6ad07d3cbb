# SPDX-License-Identifier: Apache-2.0
"""How well remembered cameras saw what a chunk's cameras are going to see.

The volume that the target frusta cover is sampled by points: a grid of rays through each
picture, at several depths, as the true depth is not known. A remembered frame shows a point
well if it lies in its frustum and was seen from a similar direction and distance.

N remembered frames, P points; everything is float32 and without loops over frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

DEPTHS = (2.0, 5.0, 12.0)  # metres
ROWS = (-0.65, 0.65)  # of rays, in half heights of the picture from its middle
# In half widths. The outermost lie near the picture's edges: a camera that pans brings a place
# back into view there first, and a strip that no ray samples is never remembered.
COLUMNS = (-0.95, -0.57, -0.19, 0.19, 0.57, 0.95)
MOST_POSES = 5  # target poses that are sampled, evenly over the chunk
NEARLY = 0.85  # of the largest gain: such a run is as good, if it is newer
MEAN_WEIGHT = 0.5  # of a run's mean view; the rest is of its best view
_BLOCK = 128  # frames at a time: what is in between stays in the processor's cache
_LEAST_COSINE = math.cos(math.radians(70))  # between two views of a point that tell of each other


@dataclass(frozen=True)
class Points:
    """Points ``[P, 3]`` in the world, unit directions ``[P, 3]`` and distances ``[P]`` of views."""

    position: Array
    direction: Array
    distance: Array


def target_points(
    poses: npt.NDArray[np.float64], fov_x: float, aspect: float, depths: tuple[float, ...] = DEPTHS
) -> Points:
    """Sample what cameras ``[k, 4, 4]`` (optical camera-to-world) see."""
    chosen = np.unique(np.linspace(0, len(poses) - 1, min(len(poses), MOST_POSES)).round())
    half = math.tan(fov_x / 2)
    y, x = np.meshgrid(np.multiply(ROWS, half * aspect), np.multiply(COLUMNS, half), indexing="ij")
    rays = np.stack((x, y, np.ones_like(x)), -1).reshape(-1, 3)
    local = rays[None] * np.asarray(depths)[:, None, None]  # [D, rays, 3]
    offset = np.einsum("kij,drj->kdri", poses[chosen.astype(int), :3, :3], local)
    position = offset + poses[chosen.astype(int), None, None, :3, 3]
    distance = np.linalg.norm(offset, axis=-1, keepdims=True)
    return Points(
        position.reshape(-1, 3).astype(np.float32),
        (offset / distance).reshape(-1, 3).astype(np.float32),
        distance.reshape(-1).astype(np.float32),
    )


def view_quality(
    poses: npt.NDArray[np.float64], points: Points, fov_x: float, aspect: float
) -> Array:
    """Return how well each remembered camera ``[N, 4, 4]`` saw each point, 0 to 1, ``[N, P]``.

    1 is the same direction and distance as that of the target; 0 is outside the frustum.
    """
    # Around the targets: far from the origin float32 would be too coarse.
    centre = points.position.mean(0, dtype=np.float64)
    near = Points((points.position - centre).astype(np.float32), points.direction, points.distance)
    quality = np.zeros((len(poses), len(points.distance)), np.float32)
    for first in range(0, len(poses), _BLOCK):
        block = slice(first, first + _BLOCK)
        origin = (poses[block, :3, 3] - centre).astype(np.float32)
        axes = poses[block, :3, :3].transpose(0, 2, 1).astype(np.float32)  # world to camera
        _add_quality(quality[block], axes, origin, near, math.tan(fov_x / 2), aspect)
    return quality


def _add_quality(
    quality: Array, axes: Array, origin: Array, points: Points, half: float, aspect: float
) -> None:
    """Write into ``quality [n, P]`` where the cameras' frusta hold the points."""
    position = points.position
    local = (axes.reshape(-1, 3) @ position.T).reshape(len(axes), 3, -1)
    local -= axes @ origin[:, :, None]
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    inside = (np.abs(x) <= z * np.float32(half)) & (np.abs(y) <= z * np.float32(half * aspect))
    frame, point = np.nonzero(inside)
    offset = position[point] - origin[frame]
    distance = np.sqrt(np.einsum("si,si->s", offset, offset))
    cosine = np.einsum("si,si->s", offset, points.direction[point]) / np.maximum(distance, 1e-6)
    alike = np.maximum((cosine - _LEAST_COSINE) / (1 - _LEAST_COSINE), 0)
    wanted = points.distance[point]
    scale = np.minimum(distance, wanted) / np.maximum(np.maximum(distance, wanted), 1e-6)
    quality[frame, point] = alike * scale


def views_of_runs(quality: Array, length: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Return first frames of runs of ``length`` neighbours, and how well each shows the points.

    ``[R]`` and ``[R, P]``. Half by the best of their views, half by the mean: a clip that looks
    there all the time tells more than one that ends as it begins to. Runs of an even length
    begin at every second frame only.
    """
    group = 2 if length % 2 == 0 else 1
    skipped = len(quality) % group
    grouped = quality[skipped:].reshape(-1, group, quality.shape[1])
    best, covered = grouped.max(1), group
    while covered < length:
        step = min(covered, length - covered) // group
        best = np.maximum(best[:-step], best[step:])
        covered += step * group
    total = np.zeros((len(grouped) + 1, quality.shape[1]), np.float32)
    np.cumsum(grouped.sum(1), axis=0, out=total[1:])
    views = total[length // group :] - total[: -(length // group)]
    views *= np.float32(MEAN_WEIGHT / length)
    best *= np.float32(1 - MEAN_WEIGHT)
    views += best
    return skipped + group * np.arange(len(views)), views


def cover(
    quality: Array,
    *,
    covered: Array,
    allowed: npt.NDArray[np.bool_],
    run: int,
    count: int,
    least_gain: float,
) -> list[int]:
    """Choose runs of ``run`` neighbouring frames that together show the points best, greedily.

    Each point counts with the best view that any chosen run has of it, from ``covered [P]`` on,
    so near-duplicates gain nothing. Of runs that add nearly as much as the best one, the newest
    is taken: it knows best where everybody went. ``allowed [N - run + 1]`` are the first frames
    that a run may have. At most ``count`` frames are chosen, in runs that add at least
    ``least_gain`` of all points. Returns the first frames.
    """
    first, views = views_of_runs(quality, run)
    allowed, covered = allowed[first], covered.copy()
    points = max(1, quality.shape[1])
    starts: list[int] = []
    for _ in range(count // run):
        gain = np.maximum(views - covered, 0).sum(1)
        gain[~allowed] = 0
        if gain.max(initial=0) < least_gain * points:
            break
        best = int(np.flatnonzero(gain >= NEARLY * gain.max())[-1])
        starts.append(int(first[best]))
        np.maximum(covered, views[best], out=covered)
        allowed &= np.abs(first - first[best]) >= run
    return starts
