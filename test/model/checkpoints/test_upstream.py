# SPDX-License-Identifier: Apache-2.0
"""The released files load strictly into our modules."""

import json

import miniature
import published_tiny_decoder
import pytest
import torch
from safetensors.torch import save_file

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import (
    CheckpointError,
    load_tiny_decoder,
    load_upstream_autoencoder,
    load_upstream_text_model,
    load_upstream_transformer,
    load_wan_base,
)
from hydra_model.checkpoints.assign import on_meta
from hydra_model.checkpoints.upstream_names import (
    autoencoder_names,
    text_names,
    transformer_names,
    wan_base_names,
)
from hydra_model.config import ModelConfig
from hydra_model.text import build_text_model
from hydra_model.transformer import Transformer
from reference import reference_folder

RELEASE = ModelConfig.from_name("hydra-1.3b")
CONFIG = miniature.CONFIG


@pytest.mark.parametrize(
    ("file", "build", "names"),
    [
        ("hydra.ckpt", lambda: Transformer(RELEASE.transformer), transformer_names),
        (
            "diffusion_pytorch_model.safetensors",
            lambda: Transformer(RELEASE.transformer),
            wan_base_names,
        ),
        (
            "Wan2.1_VAE.pth",
            lambda: Autoencoder(RELEASE.autoencoder),
            lambda ours: autoencoder_names(ours, RELEASE.autoencoder.num_res_blocks),
        ),
        (
            "models_t5_umt5-xxl-enc-bf16.pth",
            lambda: build_text_model(RELEASE.text),
            text_names,
        ),
    ],
)
def test_every_released_tensor_has_its_place(file, build, names):
    released = json.loads(reference_folder("checkpoints", "state_dicts.json").read_text())[file]
    ours = on_meta(build).state_dict()
    assert {their: list(ours[our].shape) for our, their in names(ours).items()} == released


def test_the_transformer_gets_the_weights_of_the_file(tmp_path):
    path = tmp_path / "hydra.ckpt"
    tensors = miniature.transformer_tensors()
    torch.save(tensors, path)
    model = load_upstream_transformer(path, CONFIG.transformer)
    block = model.blocks[1]
    for parameter, name in (
        (block.self_attention.query.weight, "blocks.1.self_attn.q.weight"),
        (block.self_attention.output.bias, "blocks.1.self_attn.o.bias"),
        (block.self_attention.norm_key.weight, "blocks.1.self_attn.norm_k.weight"),
        (block.self_attention.tokenizer.weight, "blocks.1.self_attn.tokenizer.conv.weight"),
        (block.self_attention.projector.bias, "blocks.1.projector.bias"),
        (block.cross_attention.value.weight, "blocks.1.cross_attn.v.weight"),
        (block.norm_cross.weight, "blocks.1.norm3.weight"),
        (block.camera_context.weight, "blocks.1.cam_encoder_con.weight"),
        (block.camera_target.weight, "blocks.1.cam_encoder_tgt.weight"),
        (block.modulation, "blocks.1.modulation"),
        (model.head.linear.weight, "head.head.weight"),
        (model.patch_embedding.weight, "patch_embedding.weight"),
    ):
        assert torch.equal(parameter, tensors[name]), name
    assert not any(value.is_meta for value in model.state_dict().values())


def test_types_are_chosen_parameter_by_parameter(tmp_path):
    path = tmp_path / "hydra.ckpt"
    torch.save(miniature.transformer_tensors(), path)
    model = load_upstream_transformer(path, CONFIG.transformer, dtype=torch.bfloat16)
    assert {value.dtype for value in model.state_dict().values()} == {torch.bfloat16}
    model = load_upstream_transformer(
        path,
        CONFIG.transformer,
        dtype=lambda name: torch.float32 if name.endswith("modulation") else torch.bfloat16,
    )
    assert model.blocks[0].modulation.dtype == torch.float32
    assert model.blocks[0].ffn[0].weight.dtype == torch.bfloat16


def test_a_loaded_autoencoder_and_text_model_run(tmp_path):
    torch.save(miniature.autoencoder_tensors(), tmp_path / "Wan2.1_VAE.pth")
    autoencoder = load_upstream_autoencoder(tmp_path / "Wan2.1_VAE.pth", CONFIG.autoencoder)
    video = autoencoder.decode(autoencoder.encode(torch.zeros(1, 3, 5, 16, 16)))
    assert video.shape == (1, 3, 5, 16, 16) and video.isfinite().all()

    torch.save(miniature.text_tensors(), tmp_path / "text.pth")
    model = load_upstream_text_model(tmp_path / "text.pth", CONFIG.text)
    assert model(input_ids=torch.tensor([[3, 4, 1]])).last_hidden_state.shape == (1, 3, 8)


def test_the_wan_base_gets_new_parts_that_change_nothing_yet(tmp_path):
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(miniature.wan_base_tensors(), path)
    model = load_wan_base(path, CONFIG.transformer, dtype=torch.bfloat16)
    assert {value.dtype for value in model.state_dict().values()} == {torch.bfloat16}
    assert not any(value.is_meta for value in model.state_dict().values())
    for block in model.blocks:
        attention = block.self_attention
        assert torch.equal(attention.projector.weight, torch.eye(16, dtype=torch.bfloat16))
        for module in (block.camera_context, block.camera_target):
            assert not module.weight.any() and not module.bias.any()
        assert not attention.projector.bias.any()
        reference = torch.nn.Conv3d(16, 16, 2, 2).weight.std().item()
        spread = attention.tokenizer.weight.float().std().item()
        assert spread == pytest.approx(reference, rel=0.05)


def without(tensors, *names):
    return {name: value for name, value in tensors.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: without(t, "blocks.0.projector.weight", "head.head.bias"),
            "2 tensors missing, first blocks.0.projector.weight",
        ),
        (
            lambda t: t | {"blocks.2.modulation": torch.zeros(1, 6, 16)},
            "1 tensor too many, first blocks.2.modulation",
        ),
        (
            lambda t: t | {"head.head.bias": torch.zeros(3)},
            r"1 tensor of another shape, first head.head.bias \(\[3\], expected \[16\]\)",
        ),
        (
            lambda t: t | {"head.head.bias": torch.zeros(16, dtype=torch.int8)},
            r"1 tensor not of floating point, first head.head.bias \(torch.int8\)",
        ),
        (
            lambda t: without(t, "head.head.bias") | {"x": torch.zeros(1)},
            "1 tensor missing, first head.head.bias; 1 tensor too many, first x",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_tensor(tmp_path, change, message):
    path = tmp_path / "hydra.ckpt"
    torch.save(change(miniature.transformer_tensors()), path)
    with pytest.raises(CheckpointError, match=rf"hydra\.ckpt does not fit the model; {message}"):
        load_upstream_transformer(path, CONFIG.transformer)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            miniature.wan_base_tensors,
            r"this looks like the Wan base transformer \(diffusion.*\), not HyDRA's transformer",
        ),
        (miniature.autoencoder_tensors, r"this looks like the Wan autoencoder"),
        (miniature.text_tensors, r"this looks like the umT5 encoder"),
        (
            lambda: Transformer(CONFIG.transformer).state_dict(),
            r"this looks like a hydra_ros transformer",
        ),
    ],
)
def test_another_models_file_is_recognised(tmp_path, tensors, message):
    path = tmp_path / "hydra.ckpt"
    torch.save(tensors(), path)
    with pytest.raises(CheckpointError, match=message):
        load_upstream_transformer(path, CONFIG.transformer)


def test_hydra_in_place_of_the_wan_base_is_recognised(tmp_path):
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(miniature.transformer_tensors(), path)
    message = "this looks like HyDRA's transformer .*, not the Wan base transformer"
    with pytest.raises(CheckpointError, match=message):
        load_wan_base(path, CONFIG.transformer)


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_the_tiny_decoder_is_read_from_both_formats_and_its_encoder_left_out(tmp_path, save):
    tensors = published_tiny_decoder.tensors()
    save(tensors, tmp_path / "taew2_1")
    model = load_tiny_decoder(tmp_path / "taew2_1")
    for parameter, name in (
        (model.conv_in.bias, "decoder.1.bias"),
        (model.levels[0].blocks[2].conv1.weight, "decoder.5.conv.0.weight"),
        (model.levels[1].blocks[0].conv3.bias, "decoder.9.conv.4.bias"),
        (model.levels[1].grow.weight, "decoder.13.conv.weight"),
        (model.levels[2].conv.weight, "decoder.20.weight"),
        (model.conv_out.weight, "decoder.22.weight"),
    ):
        assert torch.equal(parameter, tensors[name]), name
    named = sum(name.startswith("decoder.") for name in tensors)
    assert len(model.state_dict()) == named


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: without(t, "decoder.7.conv.weight"), "1 tensor missing, first decoder.7.conv"),
        (
            lambda t: t | {"decoder.23.bias": torch.zeros(3)},
            "1 tensor too many, first decoder.23.bias",
        ),
        (
            lambda t: t | {"decoder.1.weight": torch.zeros(256, 48, 3, 3)},
            r"first decoder.1.weight \(\[256, 48, 3, 3\], expected \[256, 16, 3, 3\]\)",
        ),
        (lambda t: miniature.autoencoder_tensors(), "this looks like the Wan autoencoder"),
    ],
)
def test_a_tiny_decoder_that_does_not_fit_is_refused_with_the_tensor(tmp_path, change, message):
    path = tmp_path / "taew2_1.pth"
    torch.save(change(published_tiny_decoder.tensors()), path)
    with pytest.raises(CheckpointError, match=message):
        load_tiny_decoder(path)
