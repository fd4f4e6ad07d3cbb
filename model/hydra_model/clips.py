# SPDX-License-Identifier: Apache-2.0
"""Checks of what comes in from outside: clips of frames with poses and times."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hydra_model.cameras import check_poses
from hydra_model.config import ModelConfig


def check_clip(
    config: ModelConfig, frames: npt.NDArray[np.uint8], poses: npt.ArrayLike, name: str
) -> npt.NDArray[np.float64]:
    """Return the poses [T, 4, 4] of a clip that fits a model, or raise ``ValueError``.

    Accepted are frames uint8 [T, H, W, 3] at the model's size, T = 1 + stride * n, with one
    pose each.
    """
    video, stride = config.video, config.autoencoder.temporal_stride
    size = (video.height, video.width, 3)
    if not isinstance(frames, np.ndarray):
        raise ValueError(f"{name} frames are a {type(frames).__name__}; accepted: a numpy array")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != size:
        raise ValueError(
            f"{name} frames are {frames.dtype} {frames.shape}; accepted: uint8 "
            f"[T, {video.height}, {video.width}, 3]"
        )
    if (len(frames) - 1) % stride:
        raise ValueError(f"{name} has {len(frames)} frames; accepted: 1 + {stride}*n")
    checked = check_poses(poses, f"{name} poses")
    if len(checked) != len(frames):
        raise ValueError(f"{name} has {len(frames)} frames but {len(checked)} poses")
    return checked


def check_times(
    times: npt.ArrayLike, count: int, after: float, name: str
) -> npt.NDArray[np.float64]:
    """Return ``count`` seconds that increase from ``after`` on, or raise ``ValueError``."""
    seconds = np.array(times, dtype=np.float64)
    if seconds.shape != (count,):
        raise ValueError(f"{name} has {count} frames but times of shape {seconds.shape}")
    if not np.isfinite(seconds).all() or (np.diff(seconds) <= 0).any():
        raise ValueError(f"{name} times must be finite and increase from frame to frame")
    if seconds[0] <= after:
        raise ValueError(
            f"{name} begins at {seconds[0]:.3f} s; accepted: after the last frame, {after:.3f} s"
        )
    return seconds
