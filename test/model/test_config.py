# SPDX-License-Identifier: Apache-2.0
"""What a model's config file carries, and what it may leave out."""

import dataclasses

import pytest

from hydra_model.config import ModelConfig, SceneFlowConfig
from small_models import CONFIG

FORM = dataclasses.replace(
    CONFIG.transformer, memory_stride=(1, 1, 1),
    scene_flow=SceneFlowConfig(after=2, hidden=16, reach=4, num_blocks=1),
)  # fmt: skip


@pytest.mark.parametrize(
    ("part", "unknown", "accepted"),
    [("detail", "width", "dim, ffn_dim"), ("scene_flow", "knots", "after, emph")],
)
def test_it_carries_the_parts_of_a_transformer(part: str, unknown: str, accepted: str) -> None:
    config = dataclasses.replace(CONFIG, transformer=FORM)
    assert ModelConfig.from_json(config.to_json()) == config
    values = config.to_dict()
    del values["transformer"][part]  # of models from before there was one
    assert getattr(ModelConfig.from_dict(values).transformer, part) is None
    values["transformer"][part] = {unknown: 3}
    message = f"{part}: unknown field '{unknown}'; accepted: {accepted}"
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer": None}, "config.transformer is empty; accepted: a mapping"),
        ({"transformer": {"num_heads": 0}}, "config.transformer: num_heads is 0; accepted is 1"),
        ({"transformer": {"dim": "48"}}, "config.transformer.dim is '48'; accepted: a whole numb"),
        ({"transformer": {"patch_size": [1, 2]}}, r"patch_size is \[1, 2\]; accepted: a list of 3"),
        ({"transformer": {"relevance": "foo"}}, "relevance is 'foo'; accepted: pooled or position"),
        ({"transformer": {"detail": {"top_k": -1}}}, "detail: top_k is -1; accepted is 1 or more"),
        ({"video": {"fps": 0}}, "config.video: fps is 0.0; accepted is above 0"),
        ({"video": {"fov_x_degrees": 270}}, "fov_x_degrees is 270.0; accepted: below 180"),
        ({"sampler": {"steps": 2.5}}, "config.sampler.steps is 2.5; accepted: a whole number"),
        ({"autoencoder": {"latents_std": [0.0] * 16}}, "latents_std is .*; accepted is above 0"),
        ({"autoencoder": {"latents_mean": [0.0]}}, "latents_mean has 1 values; accepted: latent_"),
        ({"chunk_latents": 0}, "config: chunk_latents is 0; accepted is 1 or more"),
        ({}, "config: field 'name' is missing"),
    ],
)
def test_what_makes_no_model_is_named(changes, message: str) -> None:
    values = changes and {"name": "some", **changes}
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(values)
