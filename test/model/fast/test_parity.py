# SPDX-License-Identifier: Apache-2.0
"""The fast path agrees with the released modules, as the readable path does."""

import pytest
import torch
from model.test_transformer import released_transformer
from parity import load_case, relative_error, seeding

from hydra_model.config import SamplerConfig
from hydra_model.fast.acceleration import Acceleration
from hydra_model.fast.engine import accelerate
from hydra_model.sampler import sample

SHAPE = (1, 16, 40, 60, 104)
SWITCHES = Acceleration(fusion="none", attention="split-cpu", paired=True)
TIMES = torch.arange(20)


def cameras(seed: int) -> list[torch.Tensor]:
    return [
        0.3 * seeding().seeded_input(name, (1, 20, 12), seed)[:, :, None]
        for name in ("context_camera", "target_camera")
    ]


@torch.no_grad()
def test_one_forward_and_its_selected_memory_agree_with_the_released_modules():
    case, about = load_case("dit")
    seed, seeds = about["seed"], seeding()
    model = released_transformer(about)
    accelerate(model, SWITCHES)
    latents = seeds.seeded_input("latents", SHAPE, seed)
    text = seeds.seeded_input("text", (1, 12, about["config"]["text_dim"]), seed)
    conditioning = model.prepare(
        latents[:, :, :20], *cameras(seed), context_times=TIMES, target_times=TIMES, text=text
    )
    chosen: list[torch.Tensor] = []
    sigma = torch.tensor([about["timestep"] / 1000])
    velocity = model(latents[:, :, 20:], sigma, conditioning, selections=chosen)
    # Only the target half is computed; the case holds positions among all frames.
    positions, samples = case["noise_pred.positions"], case["noise_pred.samples"]
    channel, frame, place = positions // (40 * 6240), positions // 6240 % 40, positions % 6240
    mine = frame >= 20
    own = (channel * 20 + frame - 20) * 6240 + place
    assert relative_error(velocity.flatten()[own[mine]], samples[mine]) < 1e-4
    for block, selected in enumerate(chosen):
        expected = case[f"selected_memory.block{block}"].long()
        assert torch.equal(selected, expected[:, -selected.shape[1] :])


@pytest.mark.slow
@torch.no_grad()
def test_three_guided_steps_agree_with_the_released_pipeline():
    case, about = load_case("denoise")
    seed, seeds = about["seed"], seeding()
    model = released_transformer(about)
    accelerate(model, SWITCHES)
    shape = (1, 16, 20, 60, 104)
    dim = load_case("dit")[1]["config"]["text_dim"]
    own = [
        model.prepare(
            seeds.seeded_input("source_latents", shape, seed), *cameras(seed),
            context_times=TIMES, target_times=TIMES,
            text=seeds.seeded_input(name, (1, 12, dim), seed),
        )
        for name in ("text", "negative_text")
    ]  # fmt: skip
    config = SamplerConfig(
        steps=about["steps"], shift=about["shift"], guidance_scale=about["cfg_scale"]
    )
    noise = seeds.seeded_input("noise", shape, seed)
    latents = sample(model, noise, own[0], config, negative=own[1])
    positions, samples = case["latents.positions"], case["latents.samples"]
    assert relative_error(latents.flatten()[positions], samples) < 1e-4
