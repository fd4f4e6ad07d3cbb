# SPDX-License-Identifier: Apache-2.0
"""Solvers converge at their order; caches and intervals that spare nothing change nothing."""

import dataclasses
import itertools
import math

import pytest
import torch

from hydra_model.config import ModelConfig, SamplerConfig, TransformerConfig
from hydra_model.sampler import sample, schedule
from hydra_model.sampler_presets import SAMPLER_PRESETS, sampler_preset
from hydra_model.solvers import SOLVERS
from hydra_model.step_cache import StepCache
from hydra_model.transformer import Transformer

TINY = TransformerConfig(
    dim=48, num_heads=2, ffn_dim=96, num_blocks=1, freq_dim=16, text_dim=8, latent_channels=4,
    window=3, top_k=1,
)  # fmt: skip
OWN = SamplerConfig(steps=5, shift=3.0, guidance_scale=2.0, round_timestep=False)


def gaussian_velocity(x: torch.Tensor, sigma: float, deviation: float) -> torch.Tensor:
    """The exact velocity where clean samples are normal with mean 1 and that deviation."""
    variance = ((1 - sigma) * deviation) ** 2 + sigma**2
    slope = (sigma - (1 - sigma) * deviation**2) / variance
    return slope * (x - (1 - sigma)) - 1


def gaussian_flow(x: torch.Tensor, start: float, end: float, deviation: float) -> torch.Tensor:
    """Where the flow takes ``x`` from one noise share to another, in closed form."""
    widths = [math.hypot((1 - s) * deviation, s) for s in (start, end)]
    return (1 - end) + widths[1] / widths[0] * (x - (1 - start))


def flow_error(solver: str, steps: int) -> float:
    """The error of a solver on that flow, between noise shares where lambda is finite."""
    sigmas = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64).tolist()
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)
    expected = gaussian_flow(x, sigmas[0], sigmas[-1], 0.3)
    own = SOLVERS[solver]()
    for sigma, following in itertools.pairwise(sigmas):
        x = own.step(x, gaussian_velocity(x, sigma, 0.3), sigma, following)
    return (x - expected).abs().max().item()


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("dpm++", 2), ("unipc", 3)])
def test_halving_the_steps_divides_the_error_by_two_to_the_order(solver, order):
    errors = [flow_error(solver, steps) for steps in (80, 160, 320)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(found > order - 0.25 for found in orders), orders
    if solver == "euler":
        assert all(found < 1.25 for found in orders), orders


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_straight_flow_is_followed_exactly_from_pure_noise_to_none(solver):
    noise, clean = torch.randn(2, 7, generator=torch.Generator().manual_seed(0)).double()
    sigmas = [*schedule(6, 3.0).tolist(), 0.0]
    x, own = noise, SOLVERS[solver]()
    for sigma, following in itertools.pairwise(sigmas):
        x = own.step(x, noise - clean, sigma, following)
    torch.testing.assert_close(x, clean, rtol=0, atol=1e-12)


def test_second_order_solvers_are_nearer_with_the_few_steps_that_presets_take():
    errors = {solver: flow_error(solver, 10) for solver in SOLVERS}
    assert max(errors["unipc"], errors["dpm++"]) < errors["euler"] / 5


class CountingTransformer(Transformer):
    """Counts what it is asked for."""

    forwards = 0

    def forward(self, *arguments, **options):
        self.forwards += 1
        return super().forward(*arguments, **options)


@pytest.fixture(scope="module")
def model() -> CountingTransformer:
    torch.manual_seed(0)
    return CountingTransformer(TINY).eval().requires_grad_(False)


@torch.no_grad()
def run(model: CountingTransformer, config: SamplerConfig) -> tuple[torch.Tensor, int]:
    """Sample a small chunk; returns it and the number of forwards."""
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 1, 4, 4, 4, 6, generator=generator)
    camera = torch.randn(1, 4, 1, 12, generator=generator)
    texts = torch.randn(2, 1, 3, 8, generator=generator)
    times = torch.arange(4)
    conditionings = [
        model.prepare(clean, camera, camera, context_times=times, target_times=times, text=text)
        for text in texts
    ]
    model.forwards = 0
    latents = sample(model, noise, conditionings[0], config, negative=conditionings[1])
    return latents, model.forwards


@pytest.mark.parametrize("solver", sorted(SOLVERS))
def test_a_threshold_of_zero_and_the_whole_interval_change_nothing(model, solver):
    config = dataclasses.replace(OWN, solver=solver)
    expected, forwards = run(model, config)
    spared = dataclasses.replace(config, guidance_interval=(0.0, 1.0), cache_threshold=0.0)
    latents, spared_forwards = run(model, spared)
    assert torch.equal(latents, expected)
    assert forwards == spared_forwards == 2 * config.steps


def test_outside_the_guidance_interval_a_step_takes_one_forward(model):
    sigmas = schedule(OWN.steps, OWN.shift).tolist()
    config = dataclasses.replace(OWN, guidance_interval=(sigmas[2], sigmas[1]))
    assert run(model, config)[1] == OWN.steps + 2


def test_an_interval_that_no_step_lies_in_is_sampling_without_guidance(model):
    without = dataclasses.replace(OWN, guidance_interval=(0.0, 0.01))
    unguided = dataclasses.replace(OWN, guidance_scale=1.0)
    latents, forwards = run(model, without)
    assert forwards == OWN.steps
    assert torch.equal(latents, run(model, unguided)[0])


def test_forwards_fall_and_the_error_grows_with_the_cache_threshold(model):
    own = dataclasses.replace(OWN, steps=20)
    exact, _ = run(model, own)
    counts, errors = [], []
    for threshold in (0.02, 0.2, 5.0):
        latents, forwards = run(model, dataclasses.replace(own, cache_threshold=threshold))
        counts.append(forwards)
        errors.append((latents - exact).norm().item())
    assert 2 * own.steps >= counts[0] > counts[1] > counts[2] >= 4
    assert errors[0] < errors[1] < errors[2]


def test_the_cache_skips_while_its_estimate_stays_under_the_threshold():
    cache = StepCache(0.25)
    points = [torch.full((1, 1), value) for value in (0.0, 1.0, 1.5, 2.0)]
    for point, velocity in zip(points[:2], (1.0, 1.25), strict=True):
        assert cache.reuse(point) is None
        cache.store(point, torch.full((1, 1), velocity))
    # The velocity changed by 0.2 of its length on a way of 1.
    reused = cache.reuse(torch.full((1, 1), 2.2))
    assert reused is not None and reused.item() == 1.25
    assert cache.reuse(torch.full((1, 1), 2.3)) is None


def test_a_wrong_preset_lists_the_right_ones():
    with pytest.raises(ValueError, match=r"'quick'; accepted: exact, balanced, fast, few_step"):
        sampler_preset("quick", OWN)


@pytest.mark.parametrize("name", ["default", "hydra-1.3b"])
def test_presets_spare_more_and_more_and_exact_is_the_models_own(name):
    own = ModelConfig.from_name(name).sampler
    presets = [sampler_preset(preset, own) for preset in SAMPLER_PRESETS]
    assert presets[0] == own
    steps = [preset.steps for preset in presets]
    assert steps[0] > steps[1] >= steps[2]  # a model of two steps can spare one
    assert presets[3].guidance_scale == 1.0 and steps[3] <= 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"solver": "rk4"}, "euler, dpm"), ({"cache_threshold": -0.1}, "0 or more"),
        ({"temperature": -0.1}, "0 or more"), ({"temperature": math.nan}, "0 or more"),
    ],
)
def test_a_wrong_setting_says_what_is_accepted(change, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(OWN, **change)


def test_the_temperature_scales_the_noise_that_sampling_starts_from(model):
    generator = torch.Generator().manual_seed(1)
    clean, noise, other = torch.randn(3, 1, 4, 4, 4, 6, generator=generator)
    camera, times = torch.randn(1, 4, 1, 12, generator=generator), torch.arange(4)
    text = torch.randn(1, 3, 8, generator=generator)

    @torch.no_grad()
    def sampled(noise: torch.Tensor, temperature: float) -> torch.Tensor:
        conditioning = model.prepare(
            clean, camera, camera, context_times=times, target_times=times, text=text
        )
        config = dataclasses.replace(OWN, guidance_scale=1.0, temperature=temperature)
        return sample(model, noise, conditioning, config)

    assert torch.equal(sampled(noise, 0.5), sampled(0.5 * noise, 1.0))
    assert torch.equal(sampled(noise, 0.0), sampled(other, 0.0))
    assert not torch.equal(sampled(noise, 0.5), sampled(other, 0.5))
