# SPDX-License-Identifier: Apache-2.0
"""Preparation: clips are encoded once, it goes on where it stopped, damage is found."""

import dataclasses
import json
from pathlib import Path

import miniature
import pytest
import small_hm_world
import torch

import small_models
from hydra_model.autoencoder import Autoencoder, frames_to_video
from hydra_model.checkpoints import save_model_folder
from hydra_model.config import VideoConfig
from hydra_model.datasets.hm_world import HMWorldClips
from hydra_model.datasets.prepare import ClipEncoder, latent_mask, prepare
from hydra_model.datasets.shards import PreparedClips, ShardError
from hydra_model.text import build_text_model
from hydra_ros.cli.main import main

CONFIG = dataclasses.replace(small_models.CONFIG, context_latents=20, chunk_latents=20)
NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    folder = small_hm_world.write_hm_world(tmp_path_factory.mktemp("hm"), NAMES)
    (folder / "c" / "tgt_mask.mp4").unlink()
    (folder / "d" / "tgt.mp4").write_bytes((folder / "d" / "tgt.mp4").read_bytes()[:2000])
    return folder


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    torch.manual_seed(0)
    return ClipEncoder(CONFIG, Autoencoder(CONFIG.autoencoder).prepare("cpu", torch.float32))


def test_latents_poses_and_masks_are_kept_and_the_rest_is_skipped(
    published, encoder, tmp_path
) -> None:
    source = HMWorldClips(published, CONFIG)
    done = prepare(source, encoder, tmp_path, clips_per_shard=2)
    assert done.encoded == 3
    assert done.skipped == {"mask missing": 1, "video unreadable": 1}
    index = json.loads((tmp_path / "index.json").read_text())
    assert "tgt_mask.mp4 is missing" in index["skipped"]["c"]
    clips = PreparedClips(tmp_path)
    assert [clips.load(i).name for i in range(len(clips))] == ["a", "b", "e"]
    clip, raw = clips.load(2), source.load(4)
    expected = encoder.autoencoder.encode(frames_to_video(raw.target_frames))[0]
    assert torch.allclose(clip.target.float(), expected, atol=5e-3)
    assert clip.context_poses.tolist() == raw.context_poses[::4].tolist()
    assert clip.subject.shape == expected.shape[1:]
    assert clip.subject.any() and not clip.subject.all()


def test_it_goes_on_where_it_stopped(published, encoder, tmp_path) -> None:
    source = HMWorldClips(published, CONFIG)

    class Stopped(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Encoding" and done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        prepare(source, encoder, tmp_path, clips_per_shard=16, progress=stop)
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("shard*")}
    assert len(before) == 1
    done = prepare(source, encoder, tmp_path, clips_per_shard=16)
    assert (done.already, done.encoded) == (2, 1)
    assert {n: (tmp_path / n).stat().st_mtime_ns for n in before} == before
    assert prepare(source, encoder, tmp_path).encoded == 0


def test_a_shard_cut_short_is_refused_by_training_and_made_again(
    published, encoder, tmp_path
) -> None:
    source = HMWorldClips(published, CONFIG)
    prepare(source, encoder, tmp_path, clips_per_shard=2)
    shard = sorted(tmp_path.glob("shard*"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ShardError, match=r"shard-00000.safetensors was cut short.*prepare again"):
        PreparedClips(tmp_path)
    done = prepare(source, encoder, tmp_path, clips_per_shard=2)
    assert (done.redone, done.encoded) == (2, 2)
    assert len(PreparedClips(tmp_path)) == 3


def test_a_data_set_of_another_kind_is_refused_before_any_encoding(tmp_path, encoder) -> None:
    folder = small_hm_world.write_hm_world(tmp_path / "hm", ["a", "b"])
    for name in "ab":
        small_hm_world.write_cameras(folder / name / "camera.json", order=(1, 2, 0))
    with pytest.raises(ValueError, match=r"2 of 2 clips .* nothing was encoded: 2 camera conv"):
        prepare(HMWorldClips(folder, CONFIG), encoder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_latents_of_two_models_are_not_mixed(published, encoder, tmp_path) -> None:
    source = HMWorldClips(published, CONFIG)
    prepare(source, encoder, tmp_path)
    other = ClipEncoder(CONFIG, Autoencoder(CONFIG.autoencoder).prepare("cpu", torch.float32))
    with pytest.raises(ValueError, match="made by another autoencoder"):
        prepare(source, other, tmp_path)


def test_parts_share_a_folder(published, encoder, tmp_path) -> None:
    source = HMWorldClips(published, CONFIG)
    for part in ((0, 2), (1, 2)):
        prepare(source, encoder, tmp_path, part=part, most_unusable=1.0)
    clips = PreparedClips(tmp_path)
    assert sorted(clips.load(i).name for i in range(len(clips))) == ["a", "b", "e"]


def test_a_part_takes_nothing_that_the_whole_folder_has(published, encoder, tmp_path) -> None:
    source = HMWorldClips(published, CONFIG)
    prepare(source, encoder, tmp_path)
    done = prepare(source, encoder, tmp_path, part=(0, 2), most_unusable=1.0)
    assert (done.encoded, done.already) == (0, 2)
    assert len(PreparedClips(tmp_path)) == 3
    shard = next(tmp_path.glob("shard*"))
    shard.unlink()  # what the other index lists is there only while its shard is
    assert prepare(source, encoder, tmp_path, part=(0, 2), most_unusable=1.0).encoded == 2
    done = prepare(source, encoder, tmp_path, most_unusable=1.0)
    assert (done.encoded, done.already) == (1, 2)
    clips = PreparedClips(tmp_path)
    assert (len(clips), clips.repeated) == (3, [])


def test_a_clip_that_is_listed_twice_is_taken_once(published, encoder, tmp_path) -> None:
    source = HMWorldClips(published, CONFIG)
    prepare(source, encoder, tmp_path / "part", part=(0, 2), most_unusable=1.0)
    prepare(source, encoder, tmp_path)
    for file in (tmp_path / "part").glob("*-0-of-2*"):
        file.rename(tmp_path / file.name)
    clips = PreparedClips(tmp_path)
    assert sorted(clips.load(i).name for i in range(len(clips))) == ["a", "b", "e"]
    assert sorted(clips.repeated) == ["a", "e"]


def test_a_folder_without_prepared_clips_is_refused(tmp_path) -> None:
    with pytest.raises(ShardError, match="holds no prepared clips"):
        PreparedClips(tmp_path)


def test_masks_cover_the_frames_of_each_latent() -> None:
    masks = torch.zeros(9, 16, 16, dtype=torch.uint8)
    masks[5, 9, 3] = 2
    assert latent_mask(masks.numpy(), 4, 8).nonzero().tolist() == [[2, 1, 0]]


def test_the_command_embeds_captions_too(published, tmp_path, capsys) -> None:
    model = tmp_path / "model"
    config = dataclasses.replace(miniature.CONFIG, video=VideoConfig(height=32, width=48, fps=15.0))
    torch.manual_seed(0)
    save_model_folder(
        model, config, autoencoder=Autoencoder(config.autoencoder),
        text_encoder=build_text_model(config.text),
    )  # fmt: skip
    miniature.write_tokenizer(model / "tokenizer")
    out = tmp_path / "out"
    arguments = ["prepare", f"hm-world:{published}", str(out), "--model", str(model)]
    assert main([*arguments, "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "3 clips encoded, 0 were there already" in printed.out
    assert "skipped: 1 mask missing, 1 video unreadable" in printed.out
    assert "Embedding captions: 6 of 6" in printed.err
    clip = PreparedClips(out).load(0)
    assert clip.text.shape[1] == 8 and 1 < len(clip.text) <= 10


def test_wrong_input_is_one_line(tmp_path, capsys) -> None:
    assert main(["prepare", "hm-world:/nowhere", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "/nowhere does not exist" in error and error.count("\n") == 1
