# SPDX-License-Identifier: Apache-2.0
"""A model small enough to be run on small pictures in a test."""

import dataclasses

import pytest

from hydra_model.config import ModelConfig


@pytest.fixture(scope="session")
def small_config() -> ModelConfig:
    default = ModelConfig.from_name("default")
    return dataclasses.replace(
        default,
        video=dataclasses.replace(default.video, height=48, width=80),
        autoencoder=dataclasses.replace(default.autoencoder, base_dim=8),
        transformer=dataclasses.replace(
            default.transformer, dim=64, ffn_dim=64, num_blocks=2, num_heads=2,
            memory_stride=(2, 2, 2), top_k=5, space_positions="grid", value_positions="none",
            detail=None, scene_flow=None,
        ),
        sampler=dataclasses.replace(default.sampler, steps=2),
        world_style="plain",
    )  # fmt: skip
