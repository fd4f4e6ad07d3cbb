# SPDX-License-Identifier: Apache-2.0
"""Video files written and read again, files that are no videos, and frames of another size."""

import math
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from hydra_model.video import fit_frames, fitted_fov_x, read_video, write_video
from reference import reference_folder

WRITE = """
import sys
import numpy as np
from hydra_model.video import write_video
write_video(sys.argv[2], np.load(sys.argv[1]), 15)
"""


def moving_square(count: int = 20, height: int = 48, width: int = 64) -> np.ndarray:
    """An orange square that moves one pixel to the right per frame over a grey ramp."""
    ramp = np.linspace(60, 180, width).astype(np.uint8)
    frames = np.broadcast_to(ramp[:, None], (count, height, width, 3)).copy()
    for i in range(count):
        frames[i, 10:30, i : i + 16] = (240, 120, 40)
    return frames


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_what_is_written_is_read_again(tmp_path, name):
    frames = moving_square()
    write_video(tmp_path / name, frames, 15.0)
    again, fps = read_video(tmp_path / name)
    assert fps == pytest.approx(15.0)
    assert again.dtype == np.uint8 and again.shape == frames.shape
    assert psnr(frames, again) > 28  # lossy, and red is not blue


def test_an_mp4_is_h264_which_browsers_play(tmp_path):
    assert write_video(tmp_path / "clip.mp4", moving_square(), 15.0) == "libx264"
    with av.open(tmp_path / "clip.mp4") as file:
        assert file.streams.video[0].codec_context.name == "h264"
        assert file.streams.video[0].codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_the_same_frames_make_the_same_video_whatever_memory_held_before(tmp_path, name):
    rng = np.random.default_rng(0)
    still = cv2.GaussianBlur(rng.integers(0, 255, (160, 200, 3)).astype(np.float32), (0, 0), 5)
    still = cv2.normalize(still, None, 0, 255, cv2.NORM_MINMAX)
    frames = np.stack([still[2 * i : 2 * i + 96, i : i + 160] for i in range(30)])
    frames[16:] += rng.normal(0, 8, frames[16:].shape)
    np.save(tmp_path / "frames.npy", frames.clip(0, 255).astype(np.uint8))
    pictures = []
    for content in ("7", "99"):  # glibc then fills with it what it hands out
        path = tmp_path / content / name
        command = [sys.executable, "-c", WRITE, str(tmp_path / "frames.npy"), str(path)]
        memory = {"MALLOC_PERTURB_": content, "MALLOC_MMAP_MAX_": "0"}
        subprocess.run(command, env={**os.environ, **memory}, check=True, timeout=120)
        pictures.append(read_video(path)[0])
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_without_pyav_opencv_writes(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "av", None)
    frames = moving_square()
    write_video(tmp_path / name, frames, 15.0)
    again, fps = read_video(tmp_path / name)
    assert fps == pytest.approx(15.0)
    assert psnr(frames, again) > 28


def test_folders_are_made_and_odd_sizes_padded(tmp_path):
    write_video(tmp_path / "new" / "folder" / "odd.mp4", moving_square(5, 47, 63), 10)
    again, fps = read_video(tmp_path / "new" / "folder" / "odd.mp4")
    assert again.shape == (5, 48, 64, 3) and fps == pytest.approx(10)


def test_only_the_wanted_frames_are_read(tmp_path):
    write_video(tmp_path / "clip.mp4", moving_square(20), 15)
    assert len(read_video(tmp_path / "clip.mp4", 9)[0]) == 9


def test_a_short_video_says_what_it_has_and_what_is_needed(tmp_path):
    write_video(tmp_path / "short.mp4", moving_square(20), 15)
    with pytest.raises(ValueError, match=r"short\.mp4 has 20 readable frames; 77 are needed"):
        read_video(tmp_path / "short.mp4", 77)


@pytest.mark.parametrize(
    "content", [b"", b"not a video at all" * 100, b"\0\0\0\x1cftypisom\0\0\2\0"],
    ids=["empty", "text", "header only"],
)  # fmt: skip
def test_a_file_that_is_no_video_is_named(tmp_path, capfd, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.mp4 has no readable frames"):
        read_video(path)
    assert capfd.readouterr().err == ""  # FFmpeg's own complaints stay away


def test_a_truncated_video_is_refused(tmp_path):
    write_video(tmp_path / "whole.mp4", moving_square(40), 15)
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"half\.mp4"):
        read_video(tmp_path / "half.mp4", 40)


def test_a_missing_video_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.mp4 does not exist"):
        read_video(tmp_path / "nothing.mp4")


@pytest.mark.parametrize(
    ("frames", "name", "message"),
    [
        (np.zeros((3, 8, 8, 3), np.float32), "a.mp4", r"float32 \[3, 8, 8, 3\]"),
        (np.zeros((8, 8, 3), np.uint8), "a.mp4", r"accepted are uint8 \[T, H, W, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "a.mp4", r"\[0, 8, 8, 3\]"),
        (np.zeros((3, 8, 8, 3), np.uint8), "a.gif", r"accepted endings are \.mp4, \.webm"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, frames, name, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, frames, 15)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match=r"clip\.mp4"):
        write_video(tmp_path / "clip.mp4", moving_square(3), 15)


def test_fitting_crops_the_sides_about_the_centre():
    frames = np.zeros((1, 60, 120, 3), np.uint8)
    frames[:, :, 30:90] = 200  # what remains of the middle square
    fitted = fit_frames(frames, 30, 30)
    assert fitted.shape == (1, 30, 30, 3)
    assert (fitted == 200).all()


def test_fitting_crops_top_and_bottom_and_enlarges():
    frames = np.zeros((2, 40, 20, 3), np.uint8)
    frames[:, 10:30] = 90
    fitted = fit_frames(frames, 64, 64)
    assert fitted.shape == (2, 64, 64, 3)
    assert (fitted[:, 4:-4] == 90).all()


def test_fitting_averages_over_the_area():
    checks = (np.indices((32, 32)).sum(0) % 2 * 200).astype(np.uint8)
    frames = np.repeat(checks[None, :, :, None], 3, axis=3)
    assert (fit_frames(frames, 8, 8) == 100).all()


def test_frames_of_the_right_size_stay_as_they_are():
    frames = moving_square(2)
    assert np.array_equal(fit_frames(frames, 48, 64), frames)


def test_the_field_of_view_shrinks_with_the_crop():
    # 832x480 -> 160x96 keeps 800 of 832 columns, and the focal length in them.
    fitted = fitted_fov_x(math.radians(90), size=(480, 832), fitted=(96, 160))
    assert math.tan(fitted / 2) == pytest.approx(800 / 832)
    # Cropped above and below, the width is kept.
    assert fitted_fov_x(1.2, size=(100, 100), fitted=(50, 100)) == pytest.approx(1.2)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_released_clips_are_read(number):
    path: Path = reference_folder("examples", f"{number}.mp4")
    frames, fps = read_video(path, 77)
    assert frames.shape == (77, 480, 832, 3) and fps == pytest.approx(15.0)
    assert 20 < frames.mean() < 235
