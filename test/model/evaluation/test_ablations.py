# SPDX-License-Identifier: Apache-2.0
"""Other attention with the same weights: dense, and memory chosen by field of view."""

import dataclasses
import math

import pytest
import torch

from hydra_model.config import DEFAULT, HYDRA_1_3B
from hydra_model.evaluation.ablations import (
    attend_to_everything,
    choose_memory,
    keys_per_query,
    overlapping_memory,
)
from hydra_model.evaluation.predictors import LoadedModel, untrained_model
from hydra_model.rays import camera_channels
from hydra_model.transformer import Conditioning


@pytest.fixture(scope="module")
def model(small_config) -> LoadedModel:
    return untrained_model(small_config, seed=3)


def conditioned(model: LoadedModel) -> tuple[Conditioning, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    config = model.config
    latents = torch.randn(1, 12, 20, 6, 10, generator=generator).to(model.dtype)
    channels = camera_channels(config.transformer.camera)
    camera = torch.randn(1, 40, 15, channels, generator=generator).to(model.dtype)
    conditioning = model.transformer.prepare(
        latents, camera[:, :20], camera[:, 20:], context_times=torch.arange(20).double() - 20,
        target_times=torch.arange(config.chunk_latents).double(),
    )  # fmt: skip
    return conditioning, latents.flip(2)


@torch.inference_mode()
def velocity(model: LoadedModel) -> torch.Tensor:
    conditioning, noisy = conditioned(model)
    return model.transformer(noisy, torch.tensor([0.7]), conditioning).float()


def test_dense_attention_sees_what_no_retrieval_reaches(model) -> None:
    """With the window over all target frames and the memory away only the context differs."""
    every = model.with_top_k(5)
    attend_to_everything(every.transformer)
    assert not torch.allclose(velocity(every), velocity(model), atol=1e-4)
    # The model itself is left as it was.
    assert torch.equal(velocity(model), velocity(model.with_top_k(5)))


def test_dense_attention_is_plain_attention_over_all_frames(model) -> None:
    """Against one softmax written out, in the first block."""
    every = model.with_top_k(5)
    attend_to_everything(every.transformer)
    block = every.transformer.layers[0]
    own = block.self_attention
    torch.manual_seed(0)
    y = torch.randn(1, 4, 3, 5, 64).to(model.dtype)
    context = torch.randn(1, 6, 3, 5, 64).to(model.dtype)
    by = every.transformer.rotations(torch.arange(10).double(), (3, 5))[0]
    first, second = (
        dataclasses.replace(by, cosine=by.cosine[part], sine=by.sine[part])
        for part in (slice(90), slice(90, None))
    )
    own.within(context, first)
    memory = own.memorise(context, every.transformer.rotations(torch.arange(6), (3, 5))[1])
    out, _ = own.retrieve(y, second, memory, exclude_window=False)
    _, query, key, value = (t.flatten(1, 2).unflatten(-1, (2, 32)) if i else t for i, t in
                            enumerate(own.project(torch.cat((context, y), 1), by)))  # fmt: skip
    score = torch.einsum("bqhd,bkhd->bhqk", query[:, 90:].float(), key.float()) / math.sqrt(32)
    mixed = torch.einsum("bhqk,bkhd->bqhd", score.softmax(-1), value.float()).flatten(2)
    expected = own.projector(own.output(mixed.to(model.dtype))).view(y.shape)
    assert torch.allclose(out, expected, atol=2e-2)


def test_chosen_memory_is_what_is_retrieved(model) -> None:
    conditioning, noisy = conditioned(model)
    selections: list[torch.Tensor] = []
    with torch.inference_mode():
        own = model.transformer(noisy, torch.tensor([0.7]), conditioning, selections=selections)
    other = model.with_top_k(5)
    chosen = choose_memory(other.transformer)
    chosen[0] = torch.arange(5).expand(1, 20, 5)
    with torch.inference_mode():
        oldest = other.transformer(noisy, torch.tensor([0.7]), conditioning)
    assert not torch.allclose(oldest.float(), own.float(), atol=1e-5)


def test_overlap_finds_the_frames_that_looked_the_same_way() -> None:
    """The camera turns left for 40 degrees, away and back: the same views count."""
    config = dataclasses.replace(
        DEFAULT,
        transformer=dataclasses.replace(
            DEFAULT.transformer, memory_stride=(2, 1, 1), top_k=2, scene_flow=None
        ),
    )
    angles = torch.linspace(0, 180, 20, dtype=torch.float64).deg2rad()
    poses = torch.eye(4, dtype=torch.float64).repeat(1, 20, 1, 1)
    poses[0, :, 0, 0] = poses[0, :, 2, 2] = angles.cos()
    poses[0, :, 0, 2], poses[0, :, 2, 0] = angles.sin(), -angles.sin()
    chosen = overlapping_memory(poses, poses[:, [2, 17]], config, fov_x=math.radians(70))
    assert chosen.shape == (1, 2, 2)
    assert chosen[0, 0].tolist()[0] == 1
    assert chosen[0, 1].tolist()[0] == 8


def test_keys_of_the_released_model_are_the_published_number() -> None:
    assert keys_per_query(HYDRA_1_3B) == 11_700
    assert keys_per_query(HYDRA_1_3B, dense=True) == 62_400
    assert keys_per_query(DEFAULT) / keys_per_query(DEFAULT, dense=True) < 1 / 3


def test_the_released_form_is_refused(small_config) -> None:
    config = dataclasses.replace(
        small_config,
        transformer=dataclasses.replace(
            small_config.transformer, memory_source="all", relevance="positionwise"
        ),
    )
    transformer = untrained_model(config).transformer
    with pytest.raises(ValueError, match='memory_source "context"'):
        attend_to_everything(transformer)
    with pytest.raises(ValueError, match='memory_source "context"'):
        choose_memory(transformer)
