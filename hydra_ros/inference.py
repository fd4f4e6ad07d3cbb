# SPDX-License-Identifier: Apache-2.0
"""Clips with camera files -> predicted frames, without ROS: what ``hydra-ros infer`` runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hydra_model.cameras import CameraTrack, load_cameras
from hydra_model.config import ModelConfig, SamplerConfig
from hydra_model.sampler_presets import EXACT, sampler_preset
from hydra_model.video import fit_frames, fitted_fov_x, read_video
from hydra_ros import trajectory
from hydra_ros.starting_world import Clip, ContextFormat, check_size, find_clip

if TYPE_CHECKING:
    from hydra_model.world import World


@dataclass(frozen=True, kw_only=True)
class Case:
    """A clip made ready for a model.

    ``context`` is uint8 [T, H, W, 3] at the model's size with optical poses [T, 4, 4], then
    come the ``target_poses`` [N, 4, 4] to predict. ``fov_x`` in radians is the context's after
    cropping, None where it is not known.
    """

    name: str
    context: np.ndarray
    context_poses: np.ndarray
    target_poses: np.ndarray
    caption: str
    fov_x: float | None


def example_names(folder: Path) -> list[str]:
    """Return the names of the clips in a folder, numbers in their order.

    A clip counts if its video or its camera file is there, so that none is left out unseen.

    Raises:
        ValueError: there is no such folder, or no clip in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of examples")
    names = {path.stem for path in folder.glob("*.mp4")}
    names |= {path.stem.removeprefix("cam") for path in folder.glob("cam?*.json")} - {"era"}
    names |= {path.parent.name for path in folder.glob("*/camera.json")}
    if not names:
        raise ValueError(f"{folder} has no examples; N.mp4 with camN.json, or folders, are needed")
    return sorted(names, key=lambda name: (not name.isdigit(), name.zfill(12)))


def example_clip(folder: Path, name: str) -> Clip:
    """Return the files of a clip of the folder; clip N has line N of ``caption.txt``.

    Raises:
        ValueError: a file is missing.
    """
    clip = find_clip(str(folder), name)
    captions = folder / "caption.txt"
    if name.isdigit() and captions.is_file():
        lines = captions.read_text(encoding="utf-8").splitlines()
        if 0 < int(name) <= len(lines):
            return dataclasses.replace(clip, caption=lines[int(name) - 1].strip())
    return clip


def load_case(
    clip: Clip, config: ModelConfig, *, frames: int | None, fov_x: float | None
) -> Case:
    """Read a clip for a model, with the first ``frames`` target poses (None: all).

    ``fov_x`` is the horizontal field of view of the video as it was filmed, in radians.

    Raises:
        ValueError: something in the clip's files cannot be used.
    """
    if config.text is not None and not clip.caption:
        raise ValueError(f"there is no caption, which the model {config.name!r} needs")
    length = config.context_frames
    track = load_cameras(clip.cameras, frames=length, stride=config.autoencoder.temporal_stride)
    context_poses, target_poses = frame_poses(track)
    if context_poses is None:
        raise ValueError(f"camera file {clip.cameras} has no poses of the context")
    if frames is not None and not 1 <= frames <= len(target_poses):
        raise ValueError(
            f"frames is {frames}; camera file {clip.cameras} has poses for 1 to {len(target_poses)}"
        )
    context, _ = read_video(clip.video, length)
    size, model = context.shape[1:3], (config.video.height, config.video.width)
    form = ContextFormat(
        frames=length, height=model[0], width=model[1], fps=config.video.fps,
        fov_x=config.video.fov_x,
    )  # fmt: skip
    check_size(*size, form, f"video {clip.video}")
    return Case(
        name=clip.name,
        context=fit_frames(context, *model),
        context_poses=context_poses,
        target_poses=target_poses[:frames],
        caption=clip.caption,
        fov_x=None if fov_x is None else fitted_fov_x(fov_x, size=size, fitted=model),
    )


def frame_poses(track: CameraTrack) -> tuple[np.ndarray | None, np.ndarray]:
    """Return a pose for every video frame, context and target.

    Files of 12-vectors have one pose for each latent frame. Those stay as they are; the model
    does not look at the poses between them, which are interpolated.
    """
    halves = []
    for poses in (track.context, track.target):
        if poses is not None and track.frames_per_pose != 1:
            times = np.arange(len(poses)) * float(track.frames_per_pose)
            poses = trajectory.resample(poses, times, 1.0)
        halves.append(poses)
    return halves[0], halves[1]


def sampler(
    config: ModelConfig, *, steps: int | None, guidance: float | None, preset: str = EXACT
) -> SamplerConfig:
    """Return a preset of the model's sampler with what is given (not None) in place of its own."""
    changes: dict[str, float] = {}
    if steps is not None:
        changes["steps"] = steps
    if guidance is not None:
        changes["guidance_scale"] = guidance
    return dataclasses.replace(sampler_preset(preset, config.sampler), **changes)


def predict(world: World, case: Case, *, seed: int, progress: Callable[[int], None]) -> np.ndarray:
    """Start the case's world and return its predicted frames, uint8 [N, H, W, 3].

    ``progress`` gets the number of frames so far, now and then.
    """
    done = shown = 0

    def on_frames(first: int, frames: np.ndarray) -> None:
        nonlocal shown
        shown = done + first + len(frames)
        progress(shown)

    def still_busy() -> bool:
        progress(shown)
        return False

    world.reset(case.context, case.context_poses, case.caption, seed=seed, fov_x=case.fov_x)
    predicted = []
    for length in trajectory.chunk_lengths(len(case.target_poses), world.max_chunk_frames):
        poses = case.target_poses[done : done + length]
        chunk = world.step(poses, on_frames=on_frames, cancelled=still_busy)
        predicted.append(chunk.frames)
        done += length
    return np.concatenate(predicted)
