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
    [("detail", "width", "dim, ffn_dim"), ("scene_flow", "knots", "after, hidd")],
)
def test_it_carries_the_parts_of_a_transformer(part: str, unknown: str, accepted: str) -> None:
    config = dataclasses.replace(CONFIG, transformer=FORM)
    assert ModelConfig.from_json(config.to_json()) == config
    values = config.to_dict()
    del values["transformer"][part]  # of models from before there was one
    assert getattr(ModelConfig.from_dict(values).transformer, part) is None
    values["transformer"][part] = {unknown: 3}
    message = f"{part}: unknown key '{unknown}'; accepted: {accepted}"
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(values)
