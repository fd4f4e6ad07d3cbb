# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros convert`` on miniature files in the released formats."""

import miniature
import pytest
import torch

from hydra_model.checkpoints import load_config, load_transformer
from hydra_ros.cli.main import main


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    miniature.write_release(folder)
    (folder / "sizes.json").write_text(miniature.CONFIG.to_json())
    return folder


def convert(release, target, *more: str) -> int:
    return main(
        ["convert", str(release), str(target), "--config", str(release / "sizes.json"), *more]
    )


def sums(tensors) -> set[float]:
    """What identifies tensors under whatever name."""
    return {tensor.double().sum().item() for tensor in tensors.values()}


def test_the_folder_written_holds_the_released_weights(release, tmp_path, capsys):
    target = tmp_path / "model"
    assert convert(release, target) == 0
    assert load_config(target) == miniature.CONFIG
    assert sums(load_transformer(target).state_dict()) == sums(miniature.transformer_tensors())
    out = capsys.readouterr().out
    for part in ("transformer (hydra.ckpt)", "autoencoder (", "text encoder ("):
        assert part in out
    assert str(target) in out.splitlines()[-1]


def test_weights_are_cast_on_demand(release, tmp_path):
    assert convert(release, tmp_path / "model", "--dtype", "bfloat16") == 0
    dtypes = {value.dtype for value in load_transformer(tmp_path / "model").state_dict().values()}
    assert dtypes == {torch.bfloat16}


def test_a_model_is_not_overwritten_unasked(release, tmp_path, capsys):
    assert convert(release, tmp_path / "model") == 0
    assert convert(release, tmp_path / "model") == 2
    assert "has a model already; give --overwrite" in capsys.readouterr().err
    assert convert(release, tmp_path / "model", "--overwrite") == 0


def test_a_file_that_is_not_there_is_named(release, tmp_path, capsys):
    assert main(["convert", str(tmp_path), str(tmp_path / "model")]) == 2
    assert "hydra.ckpt is not in" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_weights_of_another_size_than_the_release_are_refused(release, tmp_path, capsys):
    assert main(["convert", str(release), str(tmp_path / "model")]) == 2
    error = capsys.readouterr().err
    assert "hydra.ckpt does not fit the model" in error and error.count("\n") == 1
