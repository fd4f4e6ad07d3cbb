# SPDX-License-Identifier: Apache-2.0
"""What a world starts from: a context clip with its camera poses, made up or from a folder.

Everything that can be wrong with a clip is found here, before the running world is touched.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hydra_model.cameras import load_cameras
from hydra_model.video import fit_frames, read_video
from hydra_ros import trajectory
from hydra_ros.parameters import HIGHEST_SEED

# A clip may lose this part of its picture where its shape differs from the model's (832x480
# for 160x96 loses 0.04); more would change what the camera is.
MOST_CROPPED = 0.1


@dataclass(frozen=True, kw_only=True)
class StartingWorld:
    """A context: frames uint8 [T, H, W, 3], optical poses [T, 4, 4], caption, sampler's seed.

    ``fov_x`` in radians, None where it is not known and the model's own is assumed.
    """

    frames: np.ndarray
    poses: np.ndarray
    prompt: str
    seed: int
    fov_x: float | None
    description: str

    continues = False

    @property
    def pose(self) -> np.ndarray:
        """Optical pose [4, 4] of the last frame."""
        return self.poses[-1]

    def begin(self, world: Any) -> None:
        """Make it the live world of a ``hydra_model.world.World``."""
        world.reset(self.frames, self.poses, self.prompt, seed=self.seed, fov_x=self.fov_x)


@dataclass(frozen=True, kw_only=True)
class ContextFormat:
    """What the model needs of a context: its length in frames, size in pixels, rate, view.

    ``world_style`` names the procedural worlds that it knows.
    """

    frames: int
    height: int
    width: int
    fps: float
    fov_x: float
    world_style: str = "plain"


def starting_world(
    source: str, form: ContextFormat, *, seed: int, prompt: str, family: str, clips_folder: str
) -> StartingWorld:
    """Return the starting context of a source: "procedural" or the name of a clip.

    Raises:
        ValueError: the source or something in it cannot be used; the message says what.
    """
    if source == "procedural":
        return procedural_world(form, seed=seed, prompt=prompt, family=family)
    if source == "none":
        raise ValueError("no source is configured (start_source is 'none'); name one")
    return clip_world(find_clip(clips_folder, source), form, seed=seed, prompt=prompt)


@functools.lru_cache(maxsize=1)  # starting the same world again and again is common, and slow
def procedural_world(form: ContextFormat, *, seed: int, prompt: str, family: str) -> StartingWorld:
    """Return the context of a procedural world; its own frame is the world frame."""
    from hydra_model.procedural import FAMILIES, episode

    if family not in FAMILIES:
        raise ValueError(
            f"procedural_family is {family!r}; accepted: {', '.join(sorted(FAMILIES))}"
        )
    if not 0 <= seed <= HIGHEST_SEED:
        raise ValueError(f"seed is {seed}; accepted: 0 to {HIGHEST_SEED}")
    shown = episode(
        seed,
        family=family,
        style=form.world_style,
        context_frames=form.frames,
        target_frames=0,
        height=form.height,
        width=form.width,
        fov_x=form.fov_x,
        fps=form.fps,
    )
    return StartingWorld(
        frames=shown.context_frames,
        poses=shown.context_poses,
        prompt=prompt,
        seed=seed,
        fov_x=shown.fov_x,
        description=f"procedural world {seed} ({family})",
    )


@dataclass(frozen=True)
class Clip:
    """Files of one clip; ``caption`` is "" where there is none."""

    name: str
    video: Path
    cameras: Path
    caption: str


def find_clip(folder: str, name: str) -> Clip:
    """Return the files of a clip: NAME.mp4 and camNAME.json, or a folder NAME.

    A folder holds ``context.mp4`` or ``cond.mp4`` (as the data set calls it), ``camera.json``
    and perhaps ``caption.txt``. Beside NAME.mp4, ``caption.txt`` has a line for every clip: a
    name before a colon or tab says which, otherwise line i is the i-th clip by name.

    Raises:
        ValueError: there is no such clip, or the name leads out of the folder.
    """
    if not folder:
        raise ValueError(f"there is no clip {name!r}: the parameter clips_folder is not set")
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(f"clips_folder {folder!r} is not a folder")
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise ValueError(f"clip name {name!r} is not accepted; it must be a plain name")
    name = name.removesuffix(".mp4")
    video, cameras, caption = root / f"{name}.mp4", root / f"cam{name}.json", ""
    if (root / name).is_dir():
        inside = root / name
        videos = [inside / "context.mp4", inside / "cond.mp4"]
        video = next((path for path in videos if path.is_file()), videos[0])
        cameras = inside / "camera.json"
        if (inside / "caption.txt").is_file():
            caption = _text(inside / "caption.txt").strip()
    elif (root / "caption.txt").is_file():
        caption = _caption_line(root, name)
    if not video.is_file() and not cameras.is_file():
        names = sorted(clip_names(root))
        raise ValueError(f"there is no clip {name!r} in {root}; it has {_listed(names)}")
    for path in (video, cameras):
        if not path.is_file():
            raise ValueError(f"clip {name!r} has no {path.relative_to(root)} in {root}")
        if not path.resolve().is_relative_to(root.resolve()):
            raise ValueError(f"clip {name!r}: {path.name} leads out of {root}")
    return Clip(name, video, cameras, caption)


def clip_world(clip: Clip, form: ContextFormat, *, seed: int, prompt: str) -> StartingWorld:
    """Return the context of a clip; the camera file's world is the world frame.

    Raises:
        ValueError: the cameras or the video cannot be used.
    """
    # The cameras first: they are read at once, a video takes its time.
    track = load_cameras(clip.cameras, frames=form.frames)
    if track.context is None:
        raise ValueError(f"clip {clip.name!r}: {clip.cameras.name} has no poses of the context")
    poses = track.context
    if track.frames_per_pose != 1:
        # One pose for each latent frame, which is all that the model reads of them.
        times = np.arange(len(poses)) * float(track.frames_per_pose)
        poses = trajectory.resample(poses, times, 1.0)
    frames, _ = read_video(clip.video, form.frames)
    check_size(frames.shape[1], frames.shape[2], form, f"clip {clip.name!r}: {clip.video.name}")
    return StartingWorld(
        frames=fit_frames(frames, form.height, form.width),
        poses=poses,
        prompt=prompt or clip.caption,
        seed=seed,
        fov_x=None,
        description=f"clip {clip.name!r}",
    )


def check_size(height: int, width: int, form: ContextFormat, name: str) -> None:
    """Check that a picture can be shrunk to the model's size with little or no cropping.

    Raises:
        ValueError: it is smaller than the model's, or of another shape.
    """
    wanted = f"the model needs {form.width}x{form.height}, or larger in that shape"
    if height < form.height or width < form.width:
        raise ValueError(f"{name} is {width}x{height}, too small; {wanted}")
    shapes = sorted((width / height, form.width / form.height))
    if 1.0 - shapes[0] / shapes[1] > MOST_CROPPED:
        raise ValueError(f"{name} is {width}x{height}, of another shape; {wanted}")


def _caption_line(root: Path, name: str) -> str:
    lines = [line.strip() for line in _text(root / "caption.txt").splitlines() if line.strip()]
    for line in lines:
        for mark in (":", "\t"):
            key, found, text = line.partition(mark)
            if found and key.strip().removesuffix(".mp4") == name:
                return text.strip()
    names = sorted((path.stem for path in root.glob("*.mp4")), key=_numbers_by_value)
    return lines[names.index(name)] if name in names and len(lines) == len(names) else ""


def clip_names(root: Path) -> list[str]:
    """Return the names of the clips in a folder, whether or not they can be used."""
    names = [path.stem for path in root.glob("*.mp4")]
    names += [path.parent.name for path in root.glob("*/camera.json")]
    return names


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")


def _numbers_by_value(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
