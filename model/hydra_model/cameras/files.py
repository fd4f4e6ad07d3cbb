# SPDX-License-Identifier: Apache-2.0
"""Camera files of HyDRA and of its data set, read into poses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hydra_model.cameras.geometry import (
    Array,
    camera_vectors,
    check_poses,
    latent_poses,
    unreal_to_optical,
    vectors_to_poses,
)

FORMS = (
    'accepted: {"cond_cam", "tgt_cam"} of numbered 4x4 matrices, {"context_camera", '
    '"video_camera"} as [k, 12] or [T, 4, 4], or the data set\'s numbered strings'
)


@dataclass(frozen=True)
class CameraTrack:
    """Camera poses of a context clip and of the target that follows it.

    ``context`` (None where the file has none) and ``target`` are [N, 4, 4] optical
    camera-to-world, one every ``frames_per_pose`` video frames: 1 where the file gives every
    frame, the temporal stride where it gives 12-vectors of latent frames.
    """

    context: Array | None
    target: Array
    frames_per_pose: int = 1

    def vectors(
        self, stride: int = 4
    ) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32]]:
        """Return the latent frames' 12-vectors relative to target frame 0, context and target."""
        every = stride // self.frames_per_pose
        reference = self.target[0]
        context = None
        if self.context is not None:
            context = camera_vectors(latent_poses(self.context, every), reference)
        return context, camera_vectors(latent_poses(self.target, every), reference)


def load_cameras(
    source: str | Path | Mapping[str, Any], *, frames: int = 77, stride: int = 4
) -> CameraTrack:
    """Read a camera file, or the mapping that it holds, in any of the three published forms.

    ``frames`` is the length of each clip in video frames and ``stride`` the frames per latent
    frame after the first. Matrices in files are Unreal camera-to-world in centimetres,
    12-vectors are optical and relative to target frame 0 in metres. Anything else is a
    ``ValueError`` that names the entry.
    """
    name, values = _read(source)
    if "tgt_cam" in values or "cond_cam" in values:
        halves = [
            _numbered_matrices(values[key], frames, f"{name}: {key}") if key in values else None
            for key in ("cond_cam", "tgt_cam")
        ]
        return _track(halves, f"{name} has no tgt_cam", name)
    if "video_camera" in values or "context_camera" in values:
        return _array_form(values, frames, stride, name)
    if "0" in values or "1" in values:
        return _data_set_form(values, frames, name)
    raise ValueError(f"{name} has none of the known keys; {FORMS}")


def _read(source: str | Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    if isinstance(source, Mapping):
        return "cameras", source
    name = f"camera file {source}"
    try:
        values = json.loads(Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{name} holds a {type(values).__name__}; {FORMS}")
    return name, values


def _numbered_matrices(entries: Any, frames: int, name: str) -> Array:
    """Read {"0": 4x4, ...} with one entry for every frame."""
    _check_numbers(entries, frames, name)
    matrices = [_matrix(entries[str(i)], f'{name} entry "{i}"') for i in range(frames)]
    return unreal_to_optical(matrices)


def _array_form(values: Mapping[str, Any], frames: int, stride: int, name: str) -> CameraTrack:
    latents = 1 + (frames - 1) // stride
    shapes = {(latents, 12): stride, (frames, 4, 4): 1}
    halves: list[Array | None] = []
    strides = set()
    for key in ("context_camera", "video_camera"):
        if key not in values:
            halves.append(None)
            continue
        array = _numbers(values[key], f"{name}: {key}")
        if array.shape not in shapes:
            raise ValueError(
                f"{name}: {key} has shape {list(array.shape)}; "
                f"accepted: {' or '.join(str(list(shape)) for shape in shapes)}"
            )
        strides.add(shapes[array.shape])
        halves.append(vectors_to_poses(array) if array.ndim == 2 else unreal_to_optical(array))
    if len(strides) > 1:
        raise ValueError(f"{name}: context_camera and video_camera must have the same form")
    return _track(halves, f"{name} has no video_camera", name, strides.pop())


def _data_set_form(values: Mapping[str, Any], frames: int, name: str) -> CameraTrack:
    """Read the raw recording: one string per frame, the first of which is not valid."""
    half = frames - 2
    count = 2 * half - 1
    _check_numbers(values, count, name)
    matrices = [_columns(values[str(i)], f'{name} entry "{i}"') for i in range(1, count)]
    matrices = [matrices[0], *matrices, matrices[-1]]  # 2 * half of them
    poses = unreal_to_optical(matrices)
    halves = [poses[:half], poses[half:]]
    return _track([np.concatenate([part[:1], part, part[-1:]]) for part in halves], "", name)


def _track(
    halves: list[Array | None], missing: str, name: str, frames_per_pose: int = 1
) -> CameraTrack:
    context, target = halves
    if target is None:
        raise ValueError(f"{missing}; {FORMS}")
    return CameraTrack(
        context=None if context is None else check_poses(context, f"{name}: context poses"),
        target=check_poses(target, f"{name}: target poses"),
        frames_per_pose=frames_per_pose,
    )


def _check_numbers(entries: Any, count: int, name: str) -> None:
    """Check that the keys are "0" to count-1, naming what is missing or too many."""
    if not isinstance(entries, Mapping):
        raise ValueError(f"{name} is a {type(entries).__name__}; accepted: a mapping of numbers")
    wanted = [str(i) for i in range(count)]
    for word, keys in (
        ("lacks", [key for key in wanted if key not in entries]),
        ("has unknown", sorted(set(entries) - set(wanted))),
    ):
        if keys:
            shown = ", ".join(f'"{key}"' for key in keys[:5]) + (", ..." if len(keys) > 5 else "")
            raise ValueError(
                f'{name} {word} {len(keys)} entries: {shown} (it must have "0" to "{count - 1}")'
            )


def _numbers(value: Any, name: str) -> Array:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds a number that is not finite")
    return array


def _matrix(value: Any, name: str) -> Array:
    array = _numbers(value, name)
    if array.shape != (4, 4):
        raise ValueError(f"{name} has shape {list(array.shape)}; accepted: [4, 4]")
    return array


def _columns(text: Any, name: str) -> Array:
    """Read "[a b c d] [..] [..] [..]", the columns of a matrix."""
    groups = re.findall(r"\[([^\[\]]*)\]", text) if isinstance(text, str) else []
    columns = [group.replace(",", " ").split() for group in groups]
    if len(columns) != 4 or any(len(column) != 4 for column in columns):
        raise ValueError(f"{name} must be a string of four bracketed columns of four numbers")
    return _numbers(columns, name).T
