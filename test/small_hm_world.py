# SPDX-License-Identifier: Apache-2.0
"""Miniature folders in HM-World's published layout."""

import json
from pathlib import Path

import numpy as np

from hydra_model.video import write_video

FRAMES = 77


def write_hm_world(folder: Path, names: list[str], *, height: int = 48, width: int = 80) -> Path:
    """Write samples and ``caption.txt``: a square walks out of the view and comes back."""
    for i, name in enumerate(names):
        write_sample(folder / name, shade=60 + 20 * i, height=height, width=width)
    lines = [f"{name}\tA dog walks away, then back, take {i}." for i, name in enumerate(names)]
    (folder / "caption.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_sample(folder: Path, *, shade: int, height: int, width: int) -> None:
    folder.mkdir(parents=True)
    for half, start in (("cond", 0), ("tgt", FRAMES)):
        video = np.full((FRAMES, height, width, 3), shade, np.uint8)
        mask = np.zeros_like(video)
        for i in range(FRAMES):
            left = _left(start + i, width)
            where = (slice(height // 4, 3 * height // 4), slice(max(0, left), max(0, left + 16)))
            video[i][where] = (230, 180, 40)
            mask[i][where] = (255, 0, 0)
        write_video(folder / f"{half}.mp4", video, 15)
        write_video(folder / f"{half}_mask.mp4", mask, 15)
    write_cameras(folder / "camera.json")
    (folder / "character.json").write_text(json.dumps({"0": "[0 0 0]"}))
    (folder / "check.json").write_text(json.dumps({"leave": [40], "enter": [100]}))


def write_cameras(path: Path, *, scale: float = 1.0, order: tuple[int, ...] = (0, 1, 2)) -> None:
    """Write 149 cameras that turn; ``scale`` and ``order`` of the axes make wrong ones."""
    values = {}
    for i in range(2 * FRAMES - 5):
        cos, sin = np.cos(np.radians(i)), np.sin(np.radians(i))
        columns = np.array([[cos, sin, 0, 0], [-sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
        columns[:3] = columns[list(order)]
        columns[3, :3] = scale * np.array([4.0 * i, 0, 150])
        values[str(i)] = " ".join("[" + " ".join(f"{v:.6f}" for v in c) + "]" for c in columns)
    path.write_text(json.dumps(values))


def _left(frame: int, width: int) -> int:
    """Out of the view from frame 30 to 110."""
    return frame if frame < 30 else (width if frame < 110 else 20)
