# SPDX-License-Identifier: Apache-2.0
"""Model folders: written, read, and converted from the released files."""

import dataclasses

import miniature
import pytest
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import (
    CheckpointError,
    complete_model_folder,
    convert,
    load_autoencoder,
    load_config,
    load_transformer,
    load_upstream_transformer,
    open_text_encoder,
    save_model_folder,
)
from hydra_model.transformer import Transformer

CONFIG = miniature.CONFIG


def assert_same_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_a_saved_folder_loads_as_it_was(tmp_path):
    transformer, autoencoder = Transformer(CONFIG.transformer), Autoencoder(CONFIG.autoencoder)
    autoencoder.use_channels_last()
    save_model_folder(tmp_path, CONFIG, transformer=transformer, autoencoder=autoencoder)
    assert load_config(tmp_path) == CONFIG
    assert_same_weights(load_transformer(tmp_path), transformer)
    assert_same_weights(load_autoencoder(tmp_path), autoencoder)


def test_parts_can_be_saved_one_by_one_from_state_dicts(tmp_path):
    transformer, autoencoder = Transformer(CONFIG.transformer), Autoencoder(CONFIG.autoencoder)
    save_model_folder(tmp_path, CONFIG, transformer=transformer.state_dict(), dtype=torch.float16)
    save_model_folder(tmp_path, CONFIG, autoencoder=autoencoder.state_dict())
    assert load_transformer(tmp_path).head.linear.weight.dtype == torch.float16
    assert load_transformer(tmp_path, dtype=torch.float32).head.linear.weight.dtype == torch.float32
    assert_same_weights(load_autoencoder(tmp_path), autoencoder)


def test_a_trained_transformer_gets_the_other_parts_of_its_model(tmp_path):
    whole, trained = tmp_path / "whole", tmp_path / "trained"
    transformer, autoencoder = Transformer(CONFIG.transformer), Autoencoder(CONFIG.autoencoder)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    save_model_folder(
        whole, CONFIG, transformer=transformer, autoencoder=autoencoder, tokenizer_folder=tokenizer
    )
    changed = Transformer(CONFIG.transformer)
    save_model_folder(trained, CONFIG, transformer=changed)
    for _ in range(2):  # a second leg finds them there
        complete_model_folder(trained, whole)
    assert_same_weights(load_transformer(trained), changed)
    assert_same_weights(load_autoencoder(trained), autoencoder)
    assert (trained / "tokenizer" / "tokenizer.json").read_text() == "{}"
    with pytest.raises(CheckpointError, match="nowhere cannot be written"):
        complete_model_folder(tmp_path / "nowhere", whole)


def test_a_folder_with_other_sizes_than_its_weights_is_refused(tmp_path):
    save_model_folder(tmp_path, CONFIG, transformer=Transformer(CONFIG.transformer))
    smaller = dataclasses.replace(
        CONFIG, transformer=dataclasses.replace(CONFIG.transformer, num_blocks=1)
    )
    with pytest.raises(CheckpointError, match=r"tensors too many, first blocks\.1\."):
        load_transformer(tmp_path, smaller)


def test_missing_and_damaged_parts_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: model config is not JSON"):
        load_config(tmp_path)
    save_model_folder(tmp_path, CONFIG)
    with pytest.raises(CheckpointError, match=r"transformer\.safetensors cannot be read"):
        load_transformer(tmp_path)
    with pytest.raises(CheckpointError, match=r"text_encoder\.safetensors is missing"):
        open_text_encoder(tmp_path)
    save_model_folder(tmp_path, dataclasses.replace(CONFIG, text=None))
    with pytest.raises(CheckpointError, match="a model without text"):
        open_text_encoder(tmp_path)


def test_the_released_files_convert_to_a_folder(tmp_path):
    source, target = tmp_path / "release", tmp_path / "model"
    miniature.write_release(source)
    steps = []
    convert(source, target, CONFIG, progress=lambda message, share: steps.append((message, share)))
    assert steps[0] == ("transformer (hydra.ckpt)", 0.0)
    assert steps[-1] == ("done", 1.0)
    assert sorted(share for _, share in steps) == [share for _, share in steps]

    assert load_config(target) == CONFIG
    original = load_upstream_transformer(source / "hydra.ckpt", CONFIG.transformer)
    assert_same_weights(load_transformer(target), original)
    assert load_autoencoder(target).encode(torch.zeros(1, 3, 1, 16, 16)).shape == (1, 4, 1, 2, 2)
    embedding = open_text_encoder(target).embed("a dog walks")
    assert embedding.shape == (10, 8) and embedding.dtype == torch.bfloat16
    assert embedding[:4].any() and not embedding[4:].any()


def test_conversion_can_change_the_type_and_leave_out_the_text(tmp_path):
    source, target = tmp_path / "release", tmp_path / "model"
    miniature.write_release(source)
    silent = dataclasses.replace(CONFIG, text=None)
    convert(source, target, silent, dtype=torch.bfloat16)
    assert load_transformer(target).head.linear.weight.dtype == torch.bfloat16
    assert not (target / "tokenizer").exists()


def test_conversion_names_the_file_it_lacks_before_it_writes(tmp_path):
    source, target = tmp_path / "release", tmp_path / "model"
    with pytest.raises(CheckpointError, match="release is not a folder"):
        convert(source, target, CONFIG)
    miniature.write_release(source)
    (source / "Wan2.1-T2V-1.3B" / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(CheckpointError, match=r"Wan2\.1_VAE\.pth is not in .*release"):
        convert(source, target, CONFIG)
    assert not target.exists()
