# SPDX-License-Identifier: Apache-2.0
"""The CPU's form of the blocks computes what the readable form does."""

import copy
import dataclasses

import pytest
import torch

from hydra_model.config import DetailConfig, SceneFlowConfig, TransformerConfig
from hydra_model.cpu_blocks import gather_rows, use_cpu_blocks
from hydra_model.rays import camera_channels
from hydra_model.transformer import Transformer

PAPER = TransformerConfig(
    dim=48, num_heads=2, ffn_dim=96, num_blocks=3, freq_dim=16, text_dim=0, latent_channels=4,
    window=3, top_k=2, memory_source="context", relevance="positionwise", projector=False,
    time_positions="time",
)  # fmt: skip


@torch.no_grad()
def random_model(config: TransformerConfig) -> Transformer:
    torch.manual_seed(3)
    model = Transformer(config).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.1)
    return model


@torch.no_grad()
def predict(model: Transformer, batch: int, frames: int, memory: int, dtype=torch.float32):
    """The velocity and what every block selected, for inputs that depend on the shapes alone."""
    config = model.config
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    tokens = 1 if config.camera == "matrix" else 4 * 6
    camera = camera_channels(config.camera)
    detail = None if config.detail is None else normal(batch, memory + frames, 8 * 12, camera)
    conditioning = model.prepare(
        normal(batch, config.latent_channels, memory, 8, 12),
        normal(batch, memory, tokens, camera), normal(batch, frames, tokens, camera),
        context_times=torch.arange(-memory, 0.0), target_times=torch.arange(float(frames)),
        text=normal(batch, 5, config.text_dim) if config.text_dim else None,
        detail_camera=detail,
    )  # fmt: skip
    selections: list[torch.Tensor] = []
    velocity = model(
        normal(batch, config.latent_channels, frames, 8, 12), torch.linspace(0.9, 0.3, batch),
        conditioning, selections=selections,
    )  # fmt: skip
    return velocity, torch.stack(selections)


@pytest.mark.parametrize(
    ("changes", "batch", "frames", "memory"),
    [
        ({}, 1, 6, 8),
        ({"relevance": "pooled", "projector": True}, 2, 6, 4),
        ({"text_dim": 8}, 3, 5, 4),
        ({"window": 5, "top_k": 5}, 2, 2, 4),
        ({"camera": "rays", "space_positions": "rays", "memory_stride": (2, 1, 1)}, 2, 6, 8),
        ({"camera": "sweep", "space_positions": "rays", "memory_stride": (1, 1, 1),
          "tokenizer_groups": 3, "value_positions": "rays", "relevance": "attended"}, 2, 6, 8),
        ({"camera": "sweep", "space_positions": "rays", "value_positions": "rays",
          "detail": DetailConfig(dim=24, num_heads=2, ffn_dim=48, num_blocks=2, top_k=3)}, 2, 6, 8),
        ({"camera": "sweep", "space_positions": "rays", "memory_stride": (1, 1, 1),
          "value_positions": "rays", "scene_flow": SceneFlowConfig(after=1, num_blocks=2),
          "detail": DetailConfig(dim=24, num_heads=2, ffn_dim=48, num_blocks=2, top_k=3)}, 2, 6, 8),
        ({"camera": "sweep", "space_positions": "rays", "memory_stride": (1, 1, 1),
          "scene_flow": SceneFlowConfig(after=2, num_blocks=1)}, 1, 6, 8),
    ],
    ids=["default", "pooled", "text", "less than a window", "rays", "values", "detail",
         "scene flow", "scene flow without values"],
)
def test_predictions_and_selections_are_those_of_the_readable_blocks(
    changes, batch, frames, memory
):
    model = random_model(dataclasses.replace(PAPER, **changes))
    fast = copy.deepcopy(model)
    use_cpu_blocks(fast)
    expected, expected_selection = predict(model, batch, frames, memory)
    velocity, selection = predict(fast, batch, frames, memory)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert torch.equal(selection, expected_selection)


def test_in_bfloat16_they_are_as_near_to_the_float32_prediction():
    # All memory is selected: rounding may choose between nearly equal frames as it likes.
    model = random_model(dataclasses.replace(PAPER, top_k=4))
    exact, _ = predict(model, 2, 6, 8)
    narrow = copy.deepcopy(model).bfloat16()
    reference = (predict(narrow, 2, 6, 8, torch.bfloat16)[0] - exact).norm()
    use_cpu_blocks(narrow)
    error = (predict(narrow, 2, 6, 8, torch.bfloat16)[0] - exact).norm()
    assert 0 < error < 1.2 * reference
    assert error < 0.05 * exact.norm()


def test_a_model_in_the_released_form_is_left_alone():
    model = random_model(dataclasses.replace(PAPER, memory_source="all", time_positions="slot"))
    before = [block.joint for block in model.layers]
    use_cpu_blocks(model)
    assert [block.joint for block in model.layers] == before
    assert not any("target" in vars(block) for block in model.layers)


def test_rows_of_frames_and_memory_are_gathered_in_the_order_of_the_index():
    x = torch.arange(2 * 2 * 4.0).view(2, 2, 4, 1)  # two frames of four tokens: rows of two
    memory = 100 + torch.arange(2 * 1 * 2.0).view(2, 1, 2, 1)  # one memory frame: one row
    index = torch.tensor([[[1, 4], [0, 2]], [[9, 5], [8, 8]]])
    gathered = gather_rows(x, memory, index)[..., 0].tolist()
    assert gathered == [
        [[2, 3, 100, 101], [0, 1, 4, 5]],
        [[102, 103, 8, 9], [14, 15, 14, 15]],
    ]
