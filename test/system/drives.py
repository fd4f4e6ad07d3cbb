# SPDX-License-Identifier: Apache-2.0
"""Paths that cameras are driven along, and how far pictures differ."""

import numpy as np
from transforms3d.euler import euler2mat


def turning(start: np.ndarray, count: int, degrees: float) -> np.ndarray:
    poses = np.tile(start, (count, 1, 1))
    for i, pose in enumerate(poses):
        pose[:3, :3] = euler2mat(0, 0, np.radians(degrees * (i + 1))) @ start[:3, :3]
    return poses


def stepped(client, poses: np.ndarray) -> np.ndarray:
    return np.stack([frame.image for frame in client.step(poses)])


def difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())
