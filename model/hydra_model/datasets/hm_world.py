# SPDX-License-Identifier: Apache-2.0
"""HM-World in its published layout (https://huggingface.co/datasets/KlingTeam/HM-World).

A folder of sample folders, each with ``cond.mp4, tgt.mp4, cond_mask.mp4, tgt_mask.mp4,
camera.json, character.json, check.json``, and one ``caption.txt`` for all.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hydra_model.cameras import load_cameras
from hydra_model.config import ModelConfig
from hydra_model.datasets.captions import read_captions
from hydra_model.datasets.clips import Clip, UnusableClip
from hydra_model.video import fit_frames, fitted_fov_x, read_video

VIDEOS = ("cond.mp4", "tgt.mp4")
MASKS = ("cond_mask.mp4", "tgt_mask.mp4")
CAMERA, CHECK, CAPTIONS = "camera.json", "check.json", "caption.txt"

# The camera files of the data set cover 75 frames a half; their first and last are repeated.
_UNPADDED = 2
_LEAST_UPRIGHT = 0.5  # cosine between the image's and the world's down
_FASTEST = 2.0  # metres between two frames


class HMWorldClips:
    """The samples of a folder, cropped and resized to the model's frames.

    ``folder`` that is none is a ``ValueError`` at once; single samples that are no use raise
    ``UnusableClip`` when they are surveyed or loaded. Subjects are not told apart (masks are 1).
    ``masks`` False does not read masks.
    """

    def __init__(self, folder: str | Path, config: ModelConfig, *, masks: bool = True) -> None:
        self.folder, self.config, self.masks = Path(folder), config, masks
        if not self.folder.is_dir():
            raise ValueError(f"HM-World folder {self.folder} does not exist")
        self._names = sorted(p.name for p in self.folder.iterdir() if _is_sample(p))
        if not self._names:
            raise ValueError(
                f"{self.folder} holds no HM-World samples; accepted: a folder of folders with "
                f"{', '.join((*VIDEOS, *MASKS, CAMERA))}"
            )
        path = self.folder / CAPTIONS
        self._captions = read_captions(path, self._names) if path.is_file() else {}

    @property
    def title(self) -> str:
        return f"HM-World samples of {self.folder}"

    def names(self) -> list[str]:
        return list(self._names)

    def captions(self) -> list[str]:
        return sorted(set(self._captions.values()))

    def survey(self, index: int) -> None:
        sample = self.folder / self._names[index]
        for file in (*VIDEOS, *(MASKS if self.masks else ()), CAMERA):
            if not (sample / file).is_file():
                kind = "mask missing" if file in MASKS else "file missing"
                raise UnusableClip(kind, f"{sample / file} is missing")
            if (sample / file).stat().st_size == 0:
                raise UnusableClip("file empty", f"{sample / file} is empty")
        self._poses(sample)
        if self._captions and self._names[index] not in self._captions:
            raise UnusableClip("caption missing", f"{CAPTIONS} has no line for {sample.name}")

    def load(self, index: int) -> Clip:
        self.survey(index)
        name = self._names[index]
        sample, video = self.folder / name, self.config.video
        counts = (self.config.context_frames, self.config.chunk_frames)
        frames, sizes, rates = [], set(), []
        for file, count in zip(VIDEOS, counts, strict=True):
            pictures, fps = _read(sample / file, count, "video unreadable")
            sizes.add(pictures.shape[1:3])
            rates.append(fps)
            frames.append(fit_frames(pictures, video.height, video.width))
        if len(sizes) > 1:
            raise UnusableClip("video sizes differ", f"{sample}: videos of sizes {sorted(sizes)}")
        (size,) = sizes
        masks: list[NDArray[np.uint8] | None] = [None, None]
        if self.masks:
            masks = [
                self._mask(sample / f, n, size) for f, n in zip(MASKS, counts, strict=True)
            ]  # fmt: skip
        context_poses, target_poses = self._poses(sample)
        return Clip(
            name=name,
            fps=rates[0],
            fov_x=fitted_fov_x(video.fov_x, size=size, fitted=(video.height, video.width)),
            context_frames=frames[0],
            target_frames=frames[1],
            context_poses=context_poses,
            target_poses=target_poses,
            caption=self._captions.get(name),
            context_masks=masks[0],
            target_masks=masks[1],
        )

    def presence(self, index: int) -> object:
        """Return what ``check.json`` holds, the times at which subjects enter and leave."""
        return json.loads((self.folder / self._names[index] / CHECK).read_text(encoding="utf-8"))

    def _mask(self, path: Path, count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        pictures, _ = _read(path, count, "mask unreadable")
        if pictures.shape[1:3] != size:
            raise UnusableClip(
                "mask of another size", f"{path} is {pictures.shape[1:3]}, its video {size}"
            )
        video = self.config.video
        fitted = fit_frames(pictures, video.height, video.width).astype(np.int16)
        redness = fitted[..., 0] - fitted[..., 1:].max(-1)
        return (redness > 64).astype(np.uint8)

    def _poses(self, sample: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        config = self.config
        try:
            track = load_cameras(
                sample / CAMERA, frames=config.chunk_frames,
                stride=config.autoencoder.temporal_stride,
            )  # fmt: skip
        except ValueError as error:
            raise UnusableClip("camera file", str(error)) from error
        if track.context is None or track.frames_per_pose != 1:
            raise UnusableClip(
                "camera file", f"{sample / CAMERA} does not give every frame of both clips"
            )
        for poses in (track.context, track.target):
            check_convention(poses, sample / CAMERA)
        return track.context, track.target


def check_convention(poses: NDArray[np.float64], path: Path) -> None:
    """Raise ``UnusableClip`` where poses cannot be those of Unreal cameras in centimetres.

    Axes in another order or another sign give cameras that do not stand upright, other units
    give cameras that fly.
    """
    upright = float(-poses[:, 2, 1].mean())
    if upright < _LEAST_UPRIGHT:
        raise UnusableClip(
            "camera convention",
            f"{path}: cameras do not stand upright (cosine {upright:.2f}); accepted: Unreal "
            "camera-to-world, X forward, Y right, Z up, in centimetres",
        )
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    if len(steps) and float(np.median(steps)) > _FASTEST:
        raise UnusableClip(
            "camera units",
            f"{path}: cameras move {np.median(steps):.1f} m a frame; accepted: centimetres",
        )


def _is_sample(path: Path) -> bool:
    return path.is_dir() and any((path / f).exists() for f in (*VIDEOS, CAMERA))


def _read(path: Path, count: int, reason: str) -> tuple[NDArray[np.uint8], float]:
    """Read a clip of ``count`` frames; one that the raw cameras cover is padded as they are."""
    try:
        pictures, fps = read_video(path)
    except (ValueError, OSError) as error:
        raise UnusableClip(reason, str(error)) from error
    if len(pictures) == count - _UNPADDED:
        pictures = np.concatenate([pictures[:1], pictures, pictures[-1:]])
    if len(pictures) < count:
        raise UnusableClip("too short", f"{path} has {len(pictures)} frames; {count} are needed")
    return pictures[:count], fps
