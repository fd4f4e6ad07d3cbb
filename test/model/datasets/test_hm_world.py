# SPDX-License-Identifier: Apache-2.0
"""HM-World folders: read as they are published, and what is wrong with them is said."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import small_hm_world

import small_models
from hydra_model.datasets.clips import UnusableClip
from hydra_model.datasets.hm_world import HMWorldClips
from hydra_model.datasets.opening import open_clips
from hydra_model.datasets.procedural_clips import ProceduralClips

CONFIG = dataclasses.replace(small_models.CONFIG, context_latents=20, chunk_latents=20)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return small_hm_world.write_hm_world(tmp_path_factory.mktemp("hm"), ["a_01", "b_02"])


def test_a_sample_is_read_whole(published) -> None:
    source = HMWorldClips(published, CONFIG)
    assert source.names() == ["a_01", "b_02"]
    clip = source.load(1)
    assert clip.context_frames.shape == clip.target_frames.shape == (77, 48, 80, 3)
    assert clip.caption == "A dog walks away, then back, take 1."
    assert clip.fps == 15
    assert clip.context_masks.shape == (77, 48, 80)
    assert clip.context_masks[0, 24, 5] == 1 and clip.context_masks[0, 24, 60] == 0
    # Centimetres became metres, and the camera stands upright.
    assert clip.context_poses[0, 2, 3] == pytest.approx(1.5)
    assert clip.target_poses[0, 2, 1] == pytest.approx(-1)
    assert source.presence(1) == {"leave": [40], "enter": [100]}


def test_exits_and_reentries_are_read_off_the_masks(published) -> None:
    [event] = HMWorldClips(published, CONFIG).load(0).events()
    assert event.subject == 1 and event.frame == 110 - 77
    assert event.unseen == pytest.approx(80 / 15, abs=0.1)


def test_larger_videos_are_cropped_and_their_view_narrows(tmp_path) -> None:
    small_hm_world.write_hm_world(tmp_path, ["wide"], height=48, width=160)
    clip = HMWorldClips(tmp_path, CONFIG).load(0)
    assert clip.target_frames.shape == (77, 48, 80, 3)
    assert clip.fov_x < CONFIG.video.fov_x


def spoil_video(sample: Path) -> None:
    data = (sample / "tgt.mp4").read_bytes()
    (sample / "tgt.mp4").write_bytes(data[: len(data) // 3])


def drop_mask(sample: Path) -> None:
    (sample / "cond_mask.mp4").unlink()


def empty_video(sample: Path) -> None:
    (sample / "cond.mp4").write_bytes(b"")


def metres(sample: Path) -> None:
    small_hm_world.write_cameras(sample / "camera.json", scale=100.0)


def other_axes(sample: Path) -> None:
    small_hm_world.write_cameras(sample / "camera.json", order=(1, 2, 0))


def half_a_camera(sample: Path) -> None:
    values = json.loads((sample / "camera.json").read_text())
    (sample / "camera.json").write_text(json.dumps({k: v for k, v in values.items() if k != "7"}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_video, "video unreadable"),
        (drop_mask, "mask missing"),
        (empty_video, "file empty"),
        (metres, "camera units"),
        (other_axes, "camera convention"),
        (half_a_camera, "camera file"),
    ],
)
def test_a_sample_that_is_no_use_says_why(tmp_path, spoil, reason) -> None:
    small_hm_world.write_hm_world(tmp_path, ["a"])
    spoil(tmp_path / "a")
    with pytest.raises(UnusableClip, match=str(tmp_path / "a")) as caught:
        HMWorldClips(tmp_path, CONFIG).load(0)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "text",
    ["a: one\nb: two\n", "some/path/a,one\nsome/path/b,two", '{"a": "one", "b": "two"}',
     "one\ntwo\n"],
)  # fmt: skip
def test_captions_come_in_several_forms(tmp_path, text) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "cond.mp4").touch()
    (tmp_path / "caption.txt").write_text(text)
    assert HMWorldClips(tmp_path, CONFIG).captions() == ["one", "two"]


def test_captions_that_fit_nothing_are_refused(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cond.mp4").touch()
    (tmp_path / "caption.txt").write_text("one\ntwo\n")
    with pytest.raises(ValueError, match="2 lines, none of which begins with a sample's name"):
        HMWorldClips(tmp_path, CONFIG)


@pytest.mark.parametrize("text", ["hm-world:/nowhere", "hm-world", "procedural:x", "other:1"])
def test_a_data_set_that_is_none_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r"does not exist|accepted"):
        open_clips(text, CONFIG)


def test_the_procedural_world_has_the_same_interface() -> None:
    source = open_clips("procedural:2:40", CONFIG)
    assert isinstance(source, ProceduralClips)
    assert source.names() == ["world-40", "world-41"]
    clip = source.load(1)
    assert clip.context_frames.shape == clip.target_frames.shape == (77, 48, 80, 3)
    assert clip.target_masks.max() >= 0 and clip.caption is None
    assert np.array_equal(clip.context_frames, source.load(1).context_frames)
