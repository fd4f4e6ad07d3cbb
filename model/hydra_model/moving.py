# SPDX-License-Identifier: Apache-2.0
"""What moved in the pictures that memory keeps, seen from their thumbnails and poses alone.

A pixel moved if it differs from what two other moments show in its direction: camera
rotation is undone exactly, and for camera translation the comparison is widened by the
parallax of things 4 m away. So it is told from the static world without knowing what it is.
What is found are directions from the camera, not places: distance is not known.

h and w are a thumbnail's rows and columns; directions are unit vectors in the world.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8]

STEP = 3  # latent frames between the moments that are compared (0.8 s)
_LONGEST = 3.0  # seconds between two moments that are compared
_LEAST_CHANGE = 15  # levels of 255
_LEAST_PIXELS = 2
_MOST_THINGS = 10  # in a picture, the largest: where more seems to move, it is leaves or noise
_NEAREST = 4.0  # metres: the parallax of static things from there on is allowed for
_WIDEST_SEARCH = 5  # pixels of parallax beyond which nothing is told


@dataclass(frozen=True, eq=False)
class Sightings:
    """Things that moved: number of the latent frame [m], direction [m, 3], RGB colour [m, 3]."""

    frame: npt.NDArray[np.int64]
    direction: Array
    colour: Array

    @classmethod
    def none(cls) -> Sightings:
        return cls(np.zeros(0, np.int64), np.zeros((0, 3)), np.zeros((0, 3)))

    def __len__(self) -> int:
        return len(self.frame)


def find_moving(
    thumbnails: Pictures, poses: Array, times: Array, fov_x: float, *, first: int = 0
) -> Sightings:
    """Find what moved in thumbnails uint8 [k, h, w, 3] of consecutive latent frames.

    Only frames from ``first`` on are searched, the others serve to compare; numbers count from
    ``first``. Poses [k, 4, 4] are optical camera-to-world, ``fov_x`` is in radians.
    """
    height, width = thumbnails.shape[1:3]
    if not thumbnails.size or len(thumbnails) <= STEP:
        return Sightings.none()
    rays = _rays(height, width, fov_x)
    frames: list[int] = []
    directions: list[Array] = []
    colours: list[Array] = []
    for i in range(first, len(thumbnails)):
        others = [
            j
            for j in (i - STEP, i + STEP, i - 2 * STEP, i + 2 * STEP)
            if 0 <= j < len(thumbnails) and abs(times[j] - times[i]) < _LONGEST
        ][:2]
        if len(others) < 2:
            continue
        change = np.minimum(*(_change(thumbnails, poses, i, j, rays, fov_x) for j in others))
        count, labels, facts, _ = cv2.connectedComponentsWithStats(
            (change > _LEAST_CHANGE).astype(np.uint8), connectivity=8
        )
        areas = facts[1:count, cv2.CC_STAT_AREA]
        largest = np.sort(np.argsort(-areas, kind="stable")[:_MOST_THINGS])
        for label in 1 + largest[areas[largest] >= _LEAST_PIXELS]:
            own = labels == label
            towards = poses[i, :3, :3] @ rays[own].mean(0)
            frames.append(i - first)
            directions.append(towards / np.linalg.norm(towards))
            colours.append(thumbnails[i][own].mean(0))
    if not frames:
        return Sightings.none()
    return Sightings(np.array(frames), np.array(directions), np.array(colours))


def _rays(height: int, width: int, fov_x: float) -> npt.NDArray[np.float32]:
    """Return the optical-frame ray through each pixel's centre, [h, w, 3], of depth 1."""
    half = math.tan(fov_x / 2)
    x = ((np.arange(width) + 0.5) / width * 2 - 1) * half
    y = ((np.arange(height) + 0.5) / height * 2 - 1) * half * height / width
    y, x = np.meshgrid(y, x, indexing="ij")
    return np.stack((x, y, np.ones_like(x)), -1).astype(np.float32)


def _change(
    thumbnails: Pictures, poses: Array, i: int, j: int, rays: npt.NDArray[np.float32], fov_x: float
) -> npt.NDArray[np.float32]:
    """Return by how many levels picture i leaves the range of what j shows around, [h, w].

    0 where j does not show the direction at all.
    """
    height, width = rays.shape[:2]
    focal = width / 2 / math.tan(fov_x / 2)
    moved = float(np.linalg.norm(poses[i, :3, 3] - poses[j, :3, 3]))
    search = 1 + math.ceil(moved / _NEAREST * focal)
    if search > _WIDEST_SEARCH:
        return np.zeros((height, width), np.float32)
    direction = rays @ (poses[i, :3, :3].T @ poses[j, :3, :3]).astype(np.float32)
    ahead = np.maximum(direction[..., 2], 1e-3)
    column = direction[..., 0] / ahead * focal + (width - 1) / 2
    row = direction[..., 1] / ahead * focal + (height - 1) / 2
    shown = (direction[..., 2] > 1e-3) & (column >= 0) & (column <= width - 1)
    shown &= (row >= 0) & (row <= height - 1)
    around = np.ones((2 * search + 1, 2 * search + 1), np.uint8)
    highest, lowest = (
        cv2.remap(extreme(thumbnails[j], around), column, row, cv2.INTER_NEAREST).astype(np.int16)
        for extreme in (cv2.dilate, cv2.erode)
    )
    own = thumbnails[i].astype(np.int16)
    change = np.maximum(np.maximum(own - highest, lowest - own), 0).max(-1)
    return (change * shown).astype(np.float32)
