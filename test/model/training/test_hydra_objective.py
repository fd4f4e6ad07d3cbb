# SPDX-License-Identifier: Apache-2.0
"""HyDRA's own training against its formulas, written out here once more."""

import dataclasses
import math

import miniature
import pytest
import torch
from safetensors.torch import save_file

from hydra_model.checkpoints import load_wan_base
from hydra_model.config import HYDRA_1_3B, VideoConfig
from hydra_model.training.hydra_objective import (
    FlowObjective,
    initialise_additions,
    noise_levels,
    trained_parts,
)
from hydra_model.training.latent_batches import SyntheticClips, collate
from hydra_model.transformer import Transformer

SMALL = dataclasses.replace(
    miniature.CONFIG,
    video=VideoConfig(height=32, width=48),
    transformer=dataclasses.replace(miniature.CONFIG.transformer, window=2, top_k=2),
    context_latents=4,
    chunk_latents=4,
)


def weight_written_out(i: int, count: int, x) -> float:
    """A bell over x, lowered to start at 0, with a mean of 1 over all levels."""
    heights = [math.exp(-2 * ((x(j) - count / 2) / count) ** 2) for j in range(count)]
    least = min(heights)
    return (heights[i] - least) * count / sum(h - least for h in heights)


def sigma_written_out(i: int, count: int, shift: float) -> float:
    plain = 1 - i / count
    return shift * plain / (1 + (shift - 1) * plain)


@pytest.mark.parametrize("i", [0, 1, 333, 500, 999])
def test_levels_and_weights_are_the_published_ones(i: int) -> None:
    levels = noise_levels()
    assert len(levels.sigmas) == 1000
    assert levels.sigmas[i] == pytest.approx(sigma_written_out(i, 1000, 5.0), abs=1e-6)
    assert levels.weights[i] == pytest.approx(weight_written_out(i, 1000, lambda j: j), abs=1e-3)
    other = noise_levels(bell="timestep")
    expected = weight_written_out(i, 1000, lambda j: 1000 * sigma_written_out(j, 1000, 5.0))
    assert other.weights[i] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("bell", ["index", "timestep"])
def test_weights_have_mean_one_and_are_never_negative(bell) -> None:
    weights = noise_levels(bell=bell).weights
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    assert weights.min() == 0


def test_the_loss_is_the_weighted_error_of_the_targets_velocity() -> None:
    torch.manual_seed(0)
    model = Transformer(SMALL.transformer)
    levels = noise_levels(20, 5.0)
    clips = [SyntheticClips(SMALL, 2).load(i) for i in range(2)]
    batch = collate(clips, SMALL, levels=20, seeds=[3, 4])
    with torch.no_grad():
        loss, plain = FlowObjective(model, levels)(batch)
        expected, unweighted = 0.0, 0.0
        for b in range(2):
            i = int(batch.level[b])
            sigma = sigma_written_out(i, 20, 5.0)
            noisy = (1 - sigma) * batch.target[b] + sigma * batch.noise[b]
            rounded = torch.tensor(1000 * sigma).bfloat16().double() / 1000
            conditioning = model.prepare(
                batch.context[b : b + 1], batch.context_camera[b : b + 1],
                batch.target_camera[b : b + 1], context_times=batch.context_times,
                target_times=batch.target_times, text=batch.text[b : b + 1],
            )  # fmt: skip
            velocity = model(noisy[None], rounded[None], conditioning)[0]
            error = (velocity - (batch.noise[b] - batch.target[b])).square().mean()
            unweighted += float(error) / 2
            expected += weight_written_out(i, 20, lambda j: j) * float(error) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert float(plain) == pytest.approx(unweighted, rel=1e-4)


def test_gradients_reach_the_context_but_its_prediction_does_not_count() -> None:
    torch.manual_seed(0)
    model = Transformer(SMALL.transformer)
    batch = collate([SyntheticClips(SMALL).load(0)], SMALL, levels=20, seeds=[3])
    FlowObjective(model, noise_levels(20))(batch)[0].backward()
    assert model.blocks[0].camera_context.weight.grad.abs().sum() > 0


def test_what_is_trained_is_what_hydra_trains() -> None:
    with torch.device("meta"):
        model = Transformer(HYDRA_1_3B.transformer)
    trained = {name for name, _ in model.named_parameters() if trained_parts(name)}
    kinds = {name.split(".", 2)[2].rsplit(".", 1)[0] for name in trained}
    assert kinds == {
        "camera_context", "camera_target", "self_attention.query", "self_attention.key",
        "self_attention.value", "self_attention.output", "self_attention.norm_query",
        "self_attention.norm_key", "self_attention.tokenizer", "self_attention.projector",
    }  # fmt: skip
    assert {name.split(".")[1] for name in trained} == {str(i) for i in range(30)}


def test_the_start_from_the_wan_base_changes_nothing_that_it_predicts(tmp_path) -> None:
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(miniature.wan_base_tensors(), path)
    model = load_wan_base(path, SMALL.transformer)
    again = load_wan_base(path, SMALL.transformer)
    initialise_additions(again)
    dim = SMALL.transformer.dim
    for block in (*model.blocks, *again.blocks):
        for encoder in (block.camera_context, block.camera_target):
            assert not encoder.weight.any() and not encoder.bias.any()
        assert torch.equal(block.self_attention.projector.weight, torch.eye(dim))
        assert not block.self_attention.projector.bias.any()
    tensors = miniature.wan_base_tensors()
    assert torch.equal(
        model.blocks[1].self_attention.query.weight, tensors["blocks.1.self_attn.q.weight"]
    )
