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
GRID = (3, 4)  # rows and columns of rays
MOST_POSES = 5  # target poses that are sampled, evenly over the chunk
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
    rows, columns = GRID
    half = math.tan(fov_x / 2)
    x = ((np.arange(columns) + 0.5) / columns * 2 - 1) * half
    y = ((np.arange(rows) + 0.5) / rows * 2 - 1) * half * aspect
    y, x = np.meshgrid(y, x, indexing="ij")
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
    origin = (poses[:, :3, 3] - centre).astype(np.float32)
    position = points.position - centre.astype(np.float32)
    axes = poses[:, :3, :3].transpose(0, 2, 1).astype(np.float32)  # world to camera
    local = (axes.reshape(-1, 3) @ position.T).reshape(len(poses), 3, -1)
    local -= axes @ origin[:, :, None]
    half = math.tan(fov_x / 2)
    x, y, z = local[:, 0], local[:, 1], local[:, 2]
    inside = (np.abs(x) <= z * np.float32(half)) & (np.abs(y) <= z * np.float32(half * aspect))
    shown = np.flatnonzero(inside)
    frame, point = np.divmod(shown, len(position))
    offset = position[point] - origin[frame]
    distance = np.sqrt(np.einsum("si,si->s", offset, offset))
    cosine = np.einsum("si,si->s", offset, points.direction[point]) / np.maximum(distance, 1e-6)
    alike = np.maximum((cosine - _LEAST_COSINE) / (1 - _LEAST_COSINE), 0)
    wanted = points.distance[point]
    scale = np.minimum(distance, wanted) / np.maximum(np.maximum(distance, wanted), 1e-6)
    quality = np.zeros(inside.size, np.float32)
    quality[shown] = alike * scale
    return quality.reshape(inside.shape)


def best_over_runs(quality: Array, length: int) -> Array:
    """Return the best of every ``length`` neighbours, ``[N - length + 1, P]``."""
    best, covered = quality, 1
    while covered < length:
        step = min(covered, length - covered)
        best = np.maximum(best[:-step], best[step:])
        covered += step
    return best


def cover(
    quality: Array,
    *,
    covered: Array,
    allowed: npt.NDArray[np.bool_],
    preference: Array,
    run: int,
    count: int,
    least_gain: float,
) -> list[int]:
    """Choose runs of ``run`` neighbouring frames that together show the points best, greedily.

    Each point counts with the best view that any chosen frame has of it, from ``covered [P]`` on,
    so near-duplicates gain nothing. ``allowed [N - run + 1]`` are the first frames that a run may
    have, ``preference`` of the same shape multiplies gains. At most ``count`` frames are
    chosen, in runs that add at least ``least_gain`` of all points. Returns the first frames.
    """
    runs = best_over_runs(quality, run)
    allowed, covered = allowed.copy(), covered.copy()
    points = max(1, quality.shape[1])
    starts: list[int] = []
    for _ in range(count // run):
        gain = np.maximum(runs - covered, 0).sum(1) * preference
        gain[~allowed] = 0
        best = int(gain.argmax())
        if gain[best] < least_gain * points:
            break
        starts.append(best)
        np.maximum(covered, runs[best], out=covered)
        allowed[max(0, best - run + 1) : best + run] = False
    return starts
