# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros train``: configs, fine-tuning of prepared clips, one process and two."""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_training import CONFIG

from hydra_model.checkpoints import load_transformer
from hydra_model.checkpoints.upstream_names import wan_base_names
from hydra_model.datasets.shards import Index, write_shard
from hydra_model.training import command
from hydra_model.training.latent_batches import SyntheticClips
from hydra_model.transformer import Transformer
from hydra_ros.cli.main import main


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A Wan base, prepared clips and a config file, all tiny."""
    folder = tmp_path_factory.mktemp("prepared")
    torch.manual_seed(0)
    ours = Transformer(CONFIG.transformer).state_dict()
    names = wan_base_names(ours)
    save_file({names[k]: v for k, v in ours.items() if k in names}, folder / "wan.safetensors")
    (folder / "model.json").write_text(CONFIG.to_json())
    clips = SyntheticClips(CONFIG, 4)
    index = Index({"model": "none", "name": "none", "data": "none"})
    index.shards = [
        write_shard(folder / f"shard-{i}.safetensors", [clips.load(2 * i), clips.load(2 * i + 1)])
        for i in range(2)
    ]
    index.write(folder / "index.json")
    (folder / "config.yaml").write_text(f"""
recipe: finetune
output: {folder / "run"}
model: {folder / "model.json"}
start: wan-base:{folder / "wan.safetensors"}
data: {folder}
device: cpu
training: {{steps: 4, learning_rate: 1e-2, warmup: 1, log_every: 1, save_every: 2, timesteps: 50,
  batch: 2, sample_every: 0, precision: float32}}
""")
    return folder


def losses(folder: Path) -> list[float]:
    lines = (folder / "train.log").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines if line.startswith("{")]


def test_a_config_file_fine_tunes_the_wan_base_on_prepared_clips(prepared, tmp_path) -> None:
    arguments = ["train", "transformer", "--config", str(prepared / "config.yaml")]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    assert len(losses(tmp_path)) == 4
    with torch.device("meta"):
        base = Transformer(CONFIG.transformer).state_dict()
    after = load_transformer(tmp_path / "model", CONFIG).state_dict()
    assert base.keys() == after.keys()
    assert any((tmp_path / "tensorboard").iterdir())
    # Zero at the start, so what it is now was trained.
    assert after["blocks.0.camera_target.weight"].abs().sum() > 0


def test_clips_that_are_listed_twice_are_told_of(prepared, tmp_path, capsys) -> None:
    data = tmp_path / "data"
    shutil.copytree(prepared, data)
    shutil.copy(data / "index.json", data / "index-0-of-2.json")
    arguments = ["train", "transformer", "--config", str(prepared / "config.yaml")]
    changes = ["--set", f"data={data}", "--set", "leg_steps=1", "--output", str(tmp_path / "run")]
    assert main([*arguments, *changes]) == 0
    assert "lists 4 clips more than once ('synthetic-0' is the first)" in capsys.readouterr().out


def test_fine_tuning_goes_on_with_its_own_model_alone(prepared, tmp_path, capsys) -> None:
    arguments = ["train", "transformer", "--config", str(prepared / "config.yaml")]
    arguments += ["--output", str(tmp_path), "--set", "leg_steps=1"]
    assert main(arguments) == 0
    other = dataclasses.replace(
        CONFIG, transformer=dataclasses.replace(CONFIG.transformer, top_k=1)
    )
    (tmp_path / "other.json").write_text(other.to_json())
    assert main([*arguments, "--set", f"model={tmp_path / 'other.json'}"]) == 2
    assert "transformer.top_k is 1 and was 2; accepted: the model of" in capsys.readouterr().err
    assert main(arguments) == 0
    assert len(losses(tmp_path)) == 2


@pytest.mark.slow
def test_two_processes_with_a_clip_each_are_as_one_with_two(
    prepared, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = ["train", "transformer", "--config", str(prepared / "config.yaml")]
    assert main([*arguments, "--output", str(tmp_path / "one")]) == 0
    two = [*arguments, "--output", str(tmp_path / "two")]
    pair = ["--processes", "2", "--set", "training.batch=1", "--set", "leg_steps=2"]
    assert main([*two, *pair]) == 0
    assert main(two) == 0  # goes on alone with what two have written
    assert len(losses(tmp_path / "two")) == 4
    one, other = (
        load_transformer(tmp_path / name / "model", CONFIG).state_dict() for name in ("one", "two")
    )
    for name, value in one.items():
        assert torch.allclose(value.float(), other[name].float(), atol=2e-3), name


def test_a_synthetic_run_prints_every_step(prepared, tmp_path, capsys) -> None:
    arguments = ["train", "transformer", "--config", str(prepared / "config.yaml")]
    assert main([*arguments, "--synthetic", "3", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "of 0.0 M parameters are trained, on 1 x cpu, from step 0" in out
    records = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    assert [r["step"] for r in records] == [1, 2, 3]
    assert all(r["seconds_per_step"] > 0 for r in records)


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(["transformer", *words])


def test_the_style_of_worlds_is_an_option_of_procedural_runs() -> None:
    options = parsed("--preset", "default", "--world-style", "plain")
    assert command.read_settings(options).config().world_style == "plain"
    again = parsed(*command._arguments(options)[1:])  # what every process is started with
    assert command.read_settings(again).config().world_style == "plain"
    assert command.read_settings(parsed("--preset", "default")).config().world_style == "rich"
    with pytest.raises(ValueError, match="recipe procedural"):
        command.read_settings(parsed("--preset", "hydra-1.3b", "--world-style", "rich"))


@pytest.mark.parametrize("name", command.presets())
def test_the_shipped_configs_are_valid(name, tmp_path) -> None:
    settings = command.read_settings(parsed("--preset", name, "--output", str(tmp_path)))
    assert settings.output == str(tmp_path)
    assert settings.config().name == name


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--preset", "other"], "preset 'other'; accepted: default, hydra-1.3b"),
        (["--config", "/nowhere.yaml"], "/nowhere.yaml cannot be read"),
        (["--preset", "default", "--set", "recipe=magic"], "recipe is 'magic'"),
        (["--preset", "default", "--set", "transformer.worlds=many"], "transformer.worlds is 'ma"),
        (
            ["--preset", "default", "--set", "autoencoder_length={steps: 0}"],
            "autoencoder_length: steps is 0; accepted is 1 or more",
        ),
        (
            ["--preset", "default", "--set", "transformer_length={seconds: -1}"],
            "transformer_length: seconds is -1.0; accepted is above 0",
        ),
        (
            ["--preset", "default", "--set", "transformer_length={}"],
            "default.yaml: transformer_length is empty",
        ),
        (["--preset", "default", "--synthetic", "3"], "--synthetic is for the recipe finetune"),
        (["--preset", "hydra-1.3b", "--set", "start=random"], "prepared/hm-world holds no prep"),
        (["--preset", "hydra-1.3b", "--processes", "0"], "processes is 0"),
        (["--preset", "default", "--set", "device=gpu"], "device 'gpu'; accepted: auto, cpu, cuda"),
        (["--preset", "default", "--set", "device=gpu", "--processes", "2"], "device 'gpu'"),
        pytest.param(
            ["--preset", "default", "--set", "device=cuda"],
            "device 'cuda', but PyTorch sees no GPU here",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_wrong_input_is_one_line(arguments, said, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [*arguments, "--output", str(tmp_path)]
    assert main(["train", "transformer", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("hydra_model.training.command transformer --preset nope", "preset 'nope'; accepted: def"),
        ("hydra_model.evaluation --worlds 0", "worlds is 0"),
        ("hydra_model.datasets bla out", "'bla'"),
        ("hydra_model.benchmark --parts nope", "unknown part 'nope'"),
    ],
)
def test_without_ros_wrong_input_is_one_line_too(words, said, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words.split()], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "error: " in done.stderr and "Traceback" not in done.stderr


def test_wrong_data_is_refused_before_the_weights_are_read(prepared, tmp_path, capsys) -> None:
    shard = prepared / "shard-1.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    arguments = ["train", "transformer", "--config", str(prepared / "config.yaml")]
    try:
        assert main([*arguments, "--output", str(tmp_path)]) == 2
    finally:
        shard.write_bytes(whole)
    assert "cut short" in capsys.readouterr().err
