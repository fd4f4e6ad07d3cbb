# SPDX-License-Identifier: Apache-2.0
"""Evaluation on HM-World-shaped folders, with captions, masks and clips that are no use."""

import dataclasses
import json
from pathlib import Path

import miniature
import pytest
import small_clip
import small_hm_world
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import save_model_folder
from hydra_model.config import SamplerConfig, VideoConfig
from hydra_model.text import build_text_model
from hydra_model.transformer import Transformer
from hydra_ros.cli.main import main

CONFIG = dataclasses.replace(
    miniature.CONFIG,
    video=VideoConfig(height=32, width=48, fps=15.0),
    sampler=SamplerConfig(steps=2, guidance_scale=2.0),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_model_folder(
        folder, CONFIG, transformer=Transformer(CONFIG.transformer),
        autoencoder=Autoencoder(CONFIG.autoencoder), text_encoder=build_text_model(CONFIG.text),
    )  # fmt: skip
    miniature.write_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    folder = small_hm_world.write_hm_world(tmp_path_factory.mktemp("hm"), ["a", "b", "c"])
    (folder / "b" / "cond_mask.mp4").unlink()
    return folder


def test_hm_world_is_evaluated_with_what_is_there(model, published, tmp_path, capsys) -> None:
    clip = small_clip.write_clip(tmp_path / "clip")
    arguments = ["evaluate", "--model", str(model), "--data", f"hm-world:{published}"]
    arguments += ["--steps", "1", "--device", "cpu", "--clip-weights", str(clip)]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert result["clips"] == 2 and result["skipped"] == {"mask missing": 1}
    assert list(result["results"]) == [
        "last frame repeated", "autoencoder alone", "no memory (6 latents), 2 steps",
        "model, 1 steps",
    ]  # fmt: skip
    for row in result["results"].values():
        assert row["psnr"] > 0 and row["background"] > 0 and row["subject"] > 0
        assert -1 <= row["dsc_truth"] <= 1
    if "lpips" in result["unmeasured"]:
        assert row["lpips"] is None and "lpips" in result["unmeasured"]["lpips"]
    clips = json.loads((tmp_path / "out" / "clips.json").read_text())
    assert clips["model, 1 steps"][0]["events"][0]["frame"] == 110 - 77
    assert (tmp_path / "out" / "clips.jpg").stat().st_size > 5000
    assert "| model, 1 steps |" in capsys.readouterr().out


def test_captions_reach_the_model(model, published) -> None:
    from hydra_model.evaluation.predictors import ModelPredictor, load_model

    loaded = load_model(model, "cpu", torch.float32, prompts=True)
    predictor = ModelPredictor("model", loaded, 1)
    frames = torch.randint(0, 255, (1, 77, 32, 48, 3), dtype=torch.uint8)
    poses = torch.eye(4, dtype=torch.float64).repeat(1, 77, 1, 1)
    one, same, other = (
        predictor.predict(frames, poses, poses, [0], [caption])
        for caption in ("a dog walks", "a dog walks", "& & away")
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_set_without_usable_clips_is_refused(model, tmp_path, capsys) -> None:
    folder = small_hm_world.write_hm_world(tmp_path / "hm", ["a"])
    (folder / "a" / "cond.mp4").unlink()
    arguments = ["evaluate", "--model", str(model), "--data", f"hm-world:{folder}"]
    assert main([*arguments, "--output", str(tmp_path)]) == 2
    assert "none of the 1 clips" in capsys.readouterr().err
