# SPDX-License-Identifier: Apache-2.0
"""A section of a bag -> a clip that a world can start from: a video and a camera file.

The video is lossless (FFV1 in MP4), so the model sees the very pictures of the bag.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hydra_ros.recording.bag import Bag, BagError
from hydra_ros.recording.pictures import read_frames
from hydra_ros.recording.tracks import Track

CENTIMETRES = 100.0


@dataclass(frozen=True, kw_only=True)
class Section:
    """Frames uint8 [T, H, W, 3] at a steady rate, with their optical poses [T, 4, 4]."""

    frames: np.ndarray
    poses: np.ndarray


def read_section(
    bag: Bag, topic: str, track: Track, *, at: float, frames: int, fps: float
) -> Section:
    """Return ``frames`` images of a topic at ``fps`` Hz with the poses of their moments.

    The section begins ``at`` seconds after the first image that has a pose. For each frame time
    the nearest image is taken, with the pose interpolated at that image's own stamp.

    Raises:
        BagError: images and poses do not overlap for so long, or an image is missing.
    """
    times, pictures = [], []
    begin = None
    for time, picture in read_frames(bag, topic):
        if not track.times[0] <= time <= track.times[-1]:
            continue
        begin = time + at if begin is None else begin
        if time >= begin - 1.0 / fps:
            times.append(time)
            pictures.append(picture)
        if time > begin + frames / fps:
            break
    needed = (frames - 1) / fps
    if begin is None:
        raise BagError(
            f"{bag.path}: no image of {topic!r} lies within the time of the poses "
            f"({track.times[0]:.3f} to {track.times[-1]:.3f} s)"
        )
    found = times[-1] - begin if times else 0.0
    if found < needed - 0.5 / fps:
        raise BagError(
            f"{bag.path}: {topic!r} has {max(found, 0.0):.2f} s of images with poses from there "
            f"on; {needed:.2f} s are needed ({frames} frames at {fps:g} Hz)"
        )
    seen = np.array(times)
    wanted = begin + np.arange(frames) / fps
    nearest = np.abs(seen[None, :] - wanted[:, None]).argmin(axis=1)
    late = np.abs(seen[nearest] - wanted).max()
    if late > 1.0 / fps:
        raise BagError(f"{bag.path}: {topic!r} has a gap of {2 * late:.2f} s in its images")
    sizes = {pictures[index].shape for index in nearest}
    if len(sizes) > 1:
        raise BagError(f"{bag.path}: the images of {topic!r} have different sizes")
    return Section(
        frames=np.stack([pictures[index] for index in nearest]), poses=track.at(seen[nearest])
    )


def write_clip(folder: Path, name: str, section: Section, fps: float) -> None:
    """Write NAME.mp4 and camNAME.json, as ``starting_world`` reads them.

    Raises:
        OSError: they cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_lossless(folder / f"{name}.mp4", section.frames, fps)
    matrices = {
        str(index): matrix.tolist() for index, matrix in enumerate(optical_to_unreal(section.poses))
    }
    # The form asks for a path to predict, too; the camera stays where the context ends.
    stay = {key: matrices[str(len(section.poses) - 1)] for key in matrices}
    (folder / f"cam{name}.json").write_text(
        json.dumps({"cond_cam": matrices, "tgt_cam": stay}), encoding="utf-8"
    )


def optical_to_unreal(poses: np.ndarray) -> np.ndarray:
    """Return the Unreal matrices [..., 4, 4] of optical poses: the inverse of reading them."""
    matrices = np.array(poses, dtype=np.float64)
    matrices[..., 1, :] *= -1.0
    matrices[..., :3, 3] *= CENTIMETRES
    matrices[..., :, 1] *= -1.0
    return matrices[..., :, [2, 0, 1, 3]]


def _write_lossless(path: Path, frames: np.ndarray, fps: float) -> None:
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"FFV1"), fps, (width, height)
    )
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    if not path.is_file() or not path.stat().st_size:
        raise OSError(f"{path} could not be written")
