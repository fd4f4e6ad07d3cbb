# SPDX-License-Identifier: Apache-2.0
"""Finding examples, reading them for a model and predicting, without ROS."""

import dataclasses
import json
import math

import numpy as np
import pytest

import small_models
from hydra_model.cameras import load_cameras
from hydra_model.config import ModelConfig, TextConfig
from hydra_model.world import World
from hydra_ros.inference import (
    example_clip,
    example_names,
    frame_poses,
    load_case,
    predict,
    sampler,
)
from reference import reference_folder


@pytest.fixture
def examples(tmp_path):
    folder = tmp_path / "examples"
    for name in ("1", "2", "10"):
        small_models.write_example(folder, name)
    lines = [f"caption {i}" for i in range(1, 11)]
    (folder / "caption.txt").write_text("\n".join(lines))
    return folder


def test_examples_come_in_the_order_of_their_numbers(examples):
    assert example_names(examples) == ["1", "2", "10"]


def test_an_example_that_lost_its_video_is_not_left_out_unseen(examples):
    (examples / "2.mp4").unlink()
    assert example_names(examples) == ["1", "2", "10"]
    with pytest.raises(ValueError, match=r"2\.mp4"):
        example_clip(examples, "2")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no examples"):
        example_names(tmp_path)
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        example_names(tmp_path / "nowhere")


def test_a_numbered_example_has_the_line_of_its_number(examples):
    assert example_clip(examples, "1").caption == "caption 1"
    assert example_clip(examples, "10").caption == "caption 10"


def test_a_case_has_the_models_size_and_a_pose_for_every_frame(examples):
    case = load_case(
        example_clip(examples, "1"), small_models.CONFIG, frames=None, fov_x=math.radians(90)
    )
    assert case.context.shape == (17, 48, 80, 3)
    assert case.context_poses.shape == case.target_poses.shape == (17, 4, 4)
    # The camera turns on the spot, two metres above the ground.
    assert np.allclose(case.target_poses[:, :3, 3], (0, 0, 2))
    # The same shape, so nothing was cropped.
    assert case.fov_x == pytest.approx(math.radians(90))


def test_fewer_target_frames_on_demand_but_not_more_than_have_poses(examples):
    clip = example_clip(examples, "1")
    case = load_case(clip, small_models.CONFIG, frames=6, fov_x=None)
    assert len(case.target_poses) == 6 and case.fov_x is None
    for frames in (0, 18):
        with pytest.raises(ValueError, match=f"frames is {frames};.*1 to 17"):
            load_case(clip, small_models.CONFIG, frames=frames, fov_x=None)


def test_a_model_with_text_needs_a_caption(examples):
    clip = dataclasses.replace(example_clip(examples, "1"), caption="")
    with_text = dataclasses.replace(small_models.CONFIG, text=TextConfig())
    with pytest.raises(ValueError, match="no caption"):
        load_case(clip, with_text, frames=None, fov_x=None)
    load_case(clip, small_models.CONFIG, frames=None, fov_x=None)


def test_a_short_video_is_refused(tmp_path):
    small_models.write_example(tmp_path, "1", frames=9)
    with pytest.raises(ValueError, match="9 readable frames; 17 are needed"):
        load_case(example_clip(tmp_path, "1"), small_models.CONFIG, frames=None, fov_x=None)


def test_a_camera_file_without_context_is_refused(examples):
    values = json.loads((examples / "cam1.json").read_text())
    (examples / "cam1.json").write_text(json.dumps({"tgt_cam": values["tgt_cam"]}))
    with pytest.raises(ValueError, match=r"cam1\.json has no poses of the context"):
        load_case(example_clip(examples, "1"), small_models.CONFIG, frames=None, fov_x=None)


def test_twelve_vectors_of_latent_frames_become_a_pose_for_every_frame():
    path = reference_folder("examples", "cam1.json")
    every_frame = load_cameras(path)
    context, target = every_frame.vectors()
    track = load_cameras({"context_camera": context.tolist(), "video_camera": target.tolist()})
    filled_context, filled_target = frame_poses(track)
    assert filled_context.shape == filled_target.shape == (77, 4, 4)
    # What the model reads is as in the file.
    filled = dataclasses.replace(
        track, context=filled_context, target=filled_target, frames_per_pose=1
    )
    for ours, given in zip(filled.vectors(), (context, target), strict=True):
        assert np.allclose(ours, given, atol=1e-5)
    assert np.allclose(
        np.linalg.inv(filled_target[0]) @ filled_target[30],
        np.linalg.inv(every_frame.target[0]) @ every_frame.target[30],
        atol=0.05,
    )


def test_only_what_is_given_replaces_the_models_sampler():
    config = ModelConfig.from_name("hydra-1.3b")
    assert sampler(config, steps=None, guidance=None) == config.sampler
    changed = sampler(config, steps=7, guidance=None)
    assert (changed.steps, changed.guidance_scale) == (7, config.sampler.guidance_scale)
    with pytest.raises(ValueError, match="steps is 0"):
        sampler(config, steps=0, guidance=None)


def test_a_long_target_is_predicted_in_chunks_that_join(examples, tmp_path):
    config = small_models.write_model(tmp_path / "model")  # at most 9 frames at once
    world = World.load(tmp_path / "model", device="cpu")
    case = load_case(example_clip(examples, "1"), config, frames=None, fov_x=None)
    counts: list[int] = []
    frames = predict(world, case, seed=3, progress=counts.append)
    assert frames.shape == (17, 48, 80, 3) and frames.dtype == np.uint8
    assert np.array_equal(world.pose, case.target_poses[-1])
    assert world.time == pytest.approx(17 / 15)
    assert counts == sorted(counts) and counts[-1] == 17
    # The first chunk is what one step would give.
    world.reset(case.context, case.context_poses, seed=3)
    assert np.array_equal(world.step(case.target_poses[:5]).frames, frames[:5])
