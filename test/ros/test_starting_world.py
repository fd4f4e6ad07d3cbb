# SPDX-License-Identifier: Apache-2.0
import json
import math

import numpy as np
import pytest

from hydra_model.video import write_video
from hydra_ros.starting_world import ContextFormat, check_size, find_clip, starting_world

FORM = ContextFormat(frames=17, height=48, width=80, fps=15.0, fov_x=math.radians(70))


def cameras(frames: int = 17) -> dict:
    track = {str(i): np.eye(4).tolist() for i in range(frames)}
    for i, matrix in enumerate(track.values()):
        matrix[0][3] = 100.0 * i  # Unreal: centimetres
    return {"cond_cam": track, "tgt_cam": track}


@pytest.fixture
def clips(tmp_path):
    frames = np.full((20, 96, 160, 3), 128, np.uint8)
    write_video(tmp_path / "walk.mp4", frames, 15.0)
    write_video(tmp_path / "10.mp4", frames[:5], 15.0)
    write_video(tmp_path / "9.mp4", frames[:, :, :96], 15.0)
    for name in ("walk", "10", "9", "lonely"):
        (tmp_path / f"cam{name}.json").write_text(json.dumps(cameras()))
    (tmp_path / "caption.txt").write_text("nine\nten\nwalking along\n")
    folder = tmp_path / "sample"
    folder.mkdir()
    write_video(folder / "cond.mp4", frames, 15.0)
    (folder / "camera.json").write_text(json.dumps(cameras()))
    (folder / "caption.txt").write_text("a sample\n")
    return tmp_path


def start(source: str, clips="", prompt: str = ""):
    return starting_world(
        source, FORM, seed=5, prompt=prompt, family="look_away", clips_folder=str(clips)
    )


def test_a_procedural_world_is_made_of_its_seed():
    first, again = start("procedural"), start("procedural")
    assert first.frames.shape == (17, 48, 80, 3)
    assert first.poses.shape == (17, 4, 4)
    assert first.seed == 5
    np.testing.assert_array_equal(first.frames, again.frames)


def test_a_clip_is_fitted_to_the_model_and_keeps_the_world_of_its_cameras(clips):
    world = start("walk", clips)
    assert world.frames.shape == (17, 48, 80, 3)
    assert world.prompt == "walking along"
    # Unreal's X forward is the optical z axis, 100 cm are 1 m, z is up.
    np.testing.assert_allclose(world.poses[3, :3, 3], [3, 0, 0])
    np.testing.assert_allclose(world.poses[3, :3, 2], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(world.poses[3, :3, 1], [0, 0, -1], atol=1e-12)


def test_a_clip_may_be_a_folder_and_the_caption_be_replaced(clips):
    assert start("sample", clips).prompt == "a sample"
    assert start("sample", clips, prompt="something else").prompt == "something else"


def test_caption_lines_belong_to_the_clips_in_the_order_of_their_numbers(clips):
    assert find_clip(str(clips), "9").caption == "nine"
    assert find_clip(str(clips), "10").caption == "ten"
    (clips / "caption.txt").write_text("walk: by name\n10.mp4: ten: indeed\n")
    assert find_clip(str(clips), "walk").caption == "by name"
    assert find_clip(str(clips), "10").caption == "ten: indeed"
    assert find_clip(str(clips), "9").caption == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run", r"no clip 'run' in .*; it has 10, 9, sample, walk"),
        ("../clips/walk", "must be a plain name"),
        ("/etc/passwd", "must be a plain name"),
        ("..", "must be a plain name"),
        ("10", "5 readable frames; 17 are needed"),
        ("9", "96x96, of another shape"),
        ("lonely", r"has no lonely.mp4"),
        ("none", "no source is configured"),
    ],
)
def test_a_clip_that_cannot_be_used_is_refused(clips, name, words):
    with pytest.raises(ValueError, match=words):
        start(name, clips)


def test_a_link_that_leads_out_of_the_folder_is_refused(clips, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.mp4"
    outside.write_bytes(b"")
    (clips / "link.mp4").symlink_to(outside)
    (clips / "camlink.json").write_text(json.dumps(cameras()))
    with pytest.raises(ValueError, match="leads out of"):
        start("link", clips)


def test_cameras_with_missing_entries_are_refused(clips):
    broken = cameras()
    del broken["cond_cam"]["7"]
    (clips / "camwalk.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match='lacks 1 entries: "7"'):
        start("walk", clips)
    (clips / "camwalk.json").write_text(json.dumps({"tgt_cam": cameras()["tgt_cam"]}))
    with pytest.raises(ValueError, match="no poses of the context"):
        start("walk", clips)


def test_cameras_of_latent_frames_are_interpolated(clips):
    vectors = np.tile(np.eye(4)[:3].reshape(12), (5, 1))
    vectors[:, 11] = np.arange(5) * 0.4  # forward
    track = {"context_camera": vectors.tolist(), "video_camera": vectors.tolist()}
    (clips / "camwalk.json").write_text(json.dumps(track))
    poses = start("walk", clips).poses
    np.testing.assert_allclose(poses[:, 0, 3], 0.1 * np.arange(17), atol=1e-9)


def test_without_a_folder_there_are_no_clips():
    with pytest.raises(ValueError, match="clips_folder is not set"):
        start("walk")


def test_the_released_clips_fit_the_default_model():
    form = ContextFormat(frames=77, height=96, width=160, fps=15.0, fov_x=1.0)
    check_size(480, 832, form, "clip")
    with pytest.raises(ValueError, match="too small"):
        check_size(90, 160, form, "clip")
    with pytest.raises(ValueError, match="of another shape"):
        check_size(480, 640, form, "clip")
