# SPDX-License-Identifier: Apache-2.0
"""Learning the last sampling step from where a model's own steps lead."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import SamplerConfig
from hydra_model.rays import camera_channels
from hydra_model.sampler import schedule
from hydra_model.training.data import Batch
from hydra_model.training.distributed import Process
from hydra_model.training.initialisation import initialise
from hydra_model.training.own_starts import OwnStarts, first_draws, own_start
from hydra_model.training.transformer import TransformerTraining, batch_loss, train_transformer
from hydra_model.transformer import Conditioning, Transformer
from small_trainings import CONFIG, NOTHING_SHOWN, SHORT

SAMPLER = SamplerConfig(steps=2, shift=3.0, guidance_scale=1.0)
SIZE = (2, 12, 4, 4, 6)


def begun(scale: float) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(CONFIG.transformer)
    initialise(model)
    torch.nn.init.normal_(model.head.linear.weight, std=scale)
    return model


def a_batch(subject: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    channels = camera_channels("rays")
    return Batch(
        normal(*SIZE), normal(*SIZE), normal(2, 4, 6, channels), normal(2, 4, 6, channels),
        torch.arange(4).double() - 4, torch.arange(4).double(), subject, torch.zeros_like(subject),
        NOTHING_SHOWN,
    )  # fmt: skip


def conditioned(model: Transformer, batch: Batch) -> Conditioning:
    return model.prepare(
        batch.context, batch.context_camera, batch.target_camera,
        context_times=batch.context_times, target_times=batch.target_times,
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_what_has_settled_is_held_to_the_truth_and_around_subjects_to_the_teacher(
    temperature: float,
) -> None:
    model, teacher = begun(0.1), begun(0.1)
    subject = torch.zeros(2, 1, 4, 4, 6)
    subject[0, 0, 1, 0, 0] = 1.0
    batch = a_batch(subject)
    own = OwnStarts.of(teacher, dataclasses.replace(SAMPLER, temperature=temperature))
    assert own.sigmas == tuple(schedule(2, 3.0).tolist()) == (1.0, 0.75)
    noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(2))
    condition = conditioned(model, batch)
    start = own_start(model, own, condition, condition, batch.target, noise, subject)
    noise *= temperature
    with torch.no_grad():
        first = model(noise, torch.ones(2), condition)
        led = noise - 0.25 * first
        kept = teacher(led, torch.full((2,), 0.75), condition)
    assert start.sigma == 0.75
    torch.testing.assert_close(start.noisy, led)
    truth = (led - batch.target) / 0.75
    torch.testing.assert_close(led - 0.75 * truth, batch.target)
    around = torch.zeros(2, 1, 4, 4, 6, dtype=torch.bool)
    around[0, 0, 1, :3, :3] = True
    apart = (led - 0.75 * kept - (noise - first)).square().mean(1, keepdim=True)
    apart = torch.nn.functional.max_pool3d(apart, (1, 3, 3), 1, (0, 1, 1)) > 0.3
    # Both kinds are there, or nothing would be tested. Nothing random is about as it should be.
    assert 0 < (apart | around).float().mean() < 1
    torch.testing.assert_close(start.velocity, torch.where(apart | around, kept, truth))
    assert not start.found.any()


def test_a_subject_that_is_shown_about_as_it_is_is_held_to_the_truth() -> None:
    model = begun(0.1)
    subject = torch.zeros(2, 1, 4, 4, 6)
    subject[:, 0, 1, 1, 1:5] = 1.0
    batch = a_batch(subject)
    own = OwnStarts.of(model, SAMPLER)
    noise = torch.randn(SIZE, generator=torch.Generator().manual_seed(2))
    condition = conditioned(model, batch)
    with torch.no_grad():
        led = noise - 0.25 * model(noise, torch.ones(2), condition)
        shown = led - 0.75 * model(led, torch.full((2,), 0.75), condition)
    # The first sample's left half is shown nearly as it is, all else is not.
    latents = shown + 2.0
    latents[0, ..., :3] = shown[0, ..., :3] + 0.1
    start = own_start(model, own, condition, condition, latents, noise, subject)
    truth = (led - latents) / 0.75
    near = start.velocity[0, :, 1, 1, :2], truth[0, :, 1, 1, :2]
    torch.testing.assert_close(*near)
    assert (start.velocity[0, :, 1, 1, 4:] - truth[0, :, 1, 1, 4:]).abs().min() > 1
    assert (start.velocity[1, :, 1, 1] - truth[1, :, 1, 1]).abs().min() > 1
    assert start.found[0, 0, 1, 1].tolist() == [0, 1, 0, 0, 0, 0]  # next to the half, too far off
    assert start.found.sum() == 1
    # Who is told where subjects are has to show them.
    known = torch.tensor([False, True])
    told = own_start(model, own, condition, condition, latents, noise, subject, known)
    torch.testing.assert_close(told.velocity[1, :, 1, :4], truth[1, :, 1, :4])
    assert torch.equal(told.velocity[0], start.velocity[0])
    assert torch.equal(told.found, start.found)


def test_own_starts_take_their_share_of_the_draws_of_every_world() -> None:
    cpu = torch.device("cpu")
    assert first_draws(2, 3, 2, cpu).tolist() == [0, 1, 3, 4]
    assert first_draws(2, 3, 0, cpu).tolist() == []
    model = begun(0.1)
    own = OwnStarts.of(copy.deepcopy(model), SAMPLER)
    batch = a_batch(torch.zeros(2, 1, 4, 4, 6))

    def loss(share: float, given: OwnStarts | None, weight: float = 1.0) -> float:
        training = TransformerTraining(
            worlds=2, draws=2, own_share=share, own_weight=weight, context_noise=0.0
        )
        generator = torch.Generator().manual_seed(0)
        return batch_loss(model, batch, training, generator, own=given).weighted.item()

    usual = loss(0.5, None)
    assert loss(0.0, own) == usual != loss(0.5, own)
    # Where all draws are of one kind, their weight is divided out again.
    assert loss(1.0, own, 3.0) == pytest.approx(loss(1.0, own), rel=1e-5)


def test_subjects_that_are_found_weigh_as_they_are_told_to(monkeypatch) -> None:
    model = begun(0.1)
    own = OwnStarts.of(copy.deepcopy(model), SAMPLER)
    subject = torch.zeros(2, 1, 4, 4, 6)
    subject[:, :, 1, 1, 2] = 1.0

    def loss(weight: float, shown: torch.Tensor) -> float:
        training = TransformerTraining(
            worlds=2, draws=1, own_share=1.0, found_weight=weight, context_noise=0.0
        )
        generator = torch.Generator().manual_seed(0)
        return batch_loss(model, a_batch(shown), training, generator, own=own).weighted.item()

    # Random weights show nothing as it is, so this changes nothing ...
    assert loss(5.0, subject) == loss(1.0, subject)
    # ... until nearly everything counts as found: then one position in 96 weighs 5.
    monkeypatch.setattr("hydra_model.training.own_starts._FOUND", 100.0)
    plain, weighed = loss(1.0, subject), loss(5.0, subject)
    assert weighed != plain
    assert weighed == pytest.approx(plain, rel=0.5)
    assert loss(5.0, torch.zeros_like(subject)) == loss(1.0, torch.zeros_like(subject))


def test_a_run_with_own_starts_goes_on_where_it_stopped(tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, sampler=SAMPLER)
    torch.manual_seed(0)
    autoencoder = Autoencoder(config.autoencoder).prepare("cpu", torch.float32)
    begin = Transformer(config.transformer)
    initialise(begin)
    torch.nn.init.normal_(begin.head.linear.weight, std=0.1)

    def run(name: str, leg_steps: int | None = None, share: float = 0.5) -> dict:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        weights, _ = train_transformer(
            config, TransformerTraining(worlds=1, draws=2, own_share=share, plain_share=0.0),
            autoencoder, Process(0, 1, torch.device("cpu")), folder=folder, seconds=600,
            total_seconds=600, total_steps=4, leg_steps=leg_steps, compiled=False,
            begin=begin.state_dict(), log=lambda line: None,
        )  # fmt: skip
        return {name: value.clone() for name, value in weights.items()}

    whole = run("whole")
    run("legs", 2)
    legs = run("legs", 2)
    assert all(torch.equal(value, legs[name]) for name, value in whole.items())
    without = run("without", share=0.0)
    assert not all(torch.equal(value, without[name]) for name, value in whole.items())


def test_own_starts_need_two_steps_and_weights_to_begin_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="own_share needs a sampler of 2 steps or more"):
        OwnStarts.of(begun(0.1), dataclasses.replace(SAMPLER, steps=1))
    with pytest.raises(ValueError, match="own_share needs weights to begin with: start_from"):
        train_transformer(
            SHORT, TransformerTraining(worlds=1, draws=2, own_share=0.5),
            Autoencoder(SHORT.autoencoder).prepare("cpu", torch.float32),
            Process(0, 1, torch.device("cpu")), folder=tmp_path, seconds=600, total_seconds=600,
            total_steps=1, compiled=False,
        )  # fmt: skip
