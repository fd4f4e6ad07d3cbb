# SPDX-License-Identifier: Apache-2.0
"""Video files <-> frames (uint8 [T, H, W, 3] RGB), and frames of one size made another's."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from hydra_model.pictures import contact_sheet

__all__ = ["contact_sheet", "fit_frames", "fitted_fov_x", "read_video", "write_video"]

# H.264 plays everywhere. The FFmpeg of OpenCV's wheels has no encoder for it: PyAV's has. Where
# PyAV is missing (a system ROS), OpenCV writes the MPEG-4 part 2 that desktop players know.
_CODECS = {".mp4": ("libx264", "mp4v"), ".webm": ("libvpx-vp9", "VP90")}


def read_video(path: str | Path, frames: int | None = None) -> tuple[np.ndarray, float]:
    """Read a video file, or its first ``frames`` frames.

    Returns:
        uint8 [T, H, W, 3] RGB and the frame rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no video that can be read, or has fewer frames than wanted.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"video {path} does not exist")
    with _quiet():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        try:
            fps = capture.get(cv2.CAP_PROP_FPS) if capture.isOpened() else 0.0
            pictures: list[np.ndarray] = []
            while frames is None or len(pictures) < frames:
                good, picture = capture.read()
                if not good:
                    break
                pictures.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        finally:
            capture.release()
    if not pictures:
        raise ValueError(
            f"video {path} has no readable frames ({path.stat().st_size} bytes); "
            "a video file that FFmpeg decodes is needed, such as MP4"
        )
    if frames is not None and len(pictures) < frames:
        raise ValueError(f"video {path} has {len(pictures)} readable frames; {frames} are needed")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"video {path} does not say its frame rate")
    return np.stack(pictures), float(fps)


def write_video(path: str | Path, frames: np.ndarray, fps: float) -> str:
    """Write frames, uint8 [T, H, W, 3] RGB, to a ``.mp4`` or ``.webm`` file at ``fps`` Hz.

    H.264 for ``.mp4`` and VP9 for ``.webm``, nearly without visible loss; without PyAV,
    ``.mp4`` is MPEG-4 part 2, which browsers do not play. The same frames make the same video.
    Folders are made as needed. An odd height or width, which these codecs do not know, gets one
    more row or column.

    Returns:
        the codec's name.

    Raises:
        ValueError: another file name, no frames, or frames of another shape or type.
        OSError: the file cannot be written.
    """
    path = Path(path)
    frames = _checked(frames)
    if path.suffix.lower() not in _CODECS:
        accepted = ", ".join(_CODECS)
        raise ValueError(f"video file name {path.name!r}: accepted endings are {accepted}")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"frame rate is {fps}; it must be above 0")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        frames = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, second = _CODECS[path.suffix.lower()]
    try:
        _encode(path, frames, fps, codec)
    except ImportError:
        codec = second
        with _quiet():
            _encode_with_opencv(path, frames, fps, codec)
    return codec


def fit_frames(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Crop frames about their centre to the aspect of height x width, then resize them to it.

    ``frames`` and the result are uint8 [T, H, W, 3]. The horizontal field of view changes with
    the crop, see ``fitted_fov_x``.
    """
    frames = _checked(frames)
    old_height, old_width = frames.shape[1:3]
    if (old_height, old_width) == (height, width):
        return frames
    scale = max(height / old_height, width / old_width)
    crop_height = min(old_height, round(height / scale))
    crop_width = min(old_width, round(width / scale))
    top, left = (old_height - crop_height) // 2, (old_width - crop_width) // 2
    cropped = frames[:, top : top + crop_height, left : left + crop_width]
    # The area filter does not alias when it makes smaller, but makes blocks when it enlarges.
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in cropped])


def fitted_fov_x(fov_x: float, *, size: tuple[int, int], fitted: tuple[int, int]) -> float:
    """Return the horizontal field of view that ``fit_frames`` leaves of ``fov_x``, radians.

    ``size`` and ``fitted`` are (height, width) before and after.
    """
    (old_height, old_width), (height, width) = size, fitted
    kept = min(1.0, (width / height) / (old_width / old_height))
    return 2 * math.atan(kept * math.tan(fov_x / 2))


def _encode(path: Path, frames: np.ndarray, fps: float, codec: str) -> None:
    import av

    # A constant quality: 17 is what the eye hardly tells from the original. No macroblock tree:
    # with small pictures, x264's reads memory that nobody wrote, and the same frames would make
    # other pictures each time.
    h264, vp9 = {"crf": "17", "mbtree": "0"}, {"crf": "20", "b:v": "0", "cpu-used": "6"}
    options = h264 if codec == "libx264" else vp9
    try:
        with av.open(path, "w") as file:
            stream = file.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt, stream.options = "yuv420p", options
            for frame in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
            file.mux(stream.encode())
    except OSError as error:  # FFmpeg's errors are OSErrors too
        raise OSError(f"video {path} could not be written: {error}") from error


def _encode_with_opencv(path: Path, frames: np.ndarray, fps: float, codec: str) -> None:
    height, width = frames.shape[1:3]
    fourcc = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, fps, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    # It reports no errors: look whether all frames are in the file.
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    written = round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if written != len(frames):
        raise OSError(f"video {path} could not be written: is the folder writable, the disk full?")


def _checked(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames are {frames.dtype} {list(frames.shape)}; accepted are uint8 [T, H, W, 3]"
        )
    return frames


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep FFmpeg's and OpenCV's own lines off stderr: what went wrong is in our exceptions."""
    # Read once, when OpenCV first uses FFmpeg; a user's own choice stays.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # OpenCV 4 has it at the top, OpenCV 5 among the tools.
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel
    before = set_level(0)  # silent
    try:
        yield
    finally:
        set_level(before)
