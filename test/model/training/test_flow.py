# SPDX-License-Identifier: Apache-2.0
"""The flow-matching objective: noise shares, velocities, weights."""

import pytest
import torch

from hydra_model.training import flow


def test_the_velocity_leads_from_noise_to_the_sample() -> None:
    latents, noise = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6)
    sigma = torch.tensor([0.7, 0.2])
    mixed = flow.mix(latents, noise, sigma)
    back = mixed - sigma.view(-1, 1, 1, 1, 1) * (noise - latents)
    assert torch.allclose(back, latents, atol=1e-6)
    assert flow.velocity_error(noise - latents, latents, noise).sum() == 0


def test_errors_weigh_as_their_channel_does() -> None:
    latents = torch.zeros(1, 2, 1, 2, 2)
    first = latents.clone()
    first[:, 0] = 1.0
    channels = torch.tensor([1.5, 0.5])
    for wrong, expected in ((first, 0.75), (1 - first, 0.25)):
        error = flow.velocity_error(wrong, latents, latents, channels)
        torch.testing.assert_close(error, torch.full_like(error, expected))


def test_subject_weights_move_the_loss_to_the_subjects() -> None:
    latents = torch.zeros(1, 3, 1, 1, 2)
    prediction = torch.zeros(1, 3, 1, 1, 2)
    prediction[..., 1] = 1.0
    error = flow.velocity_error(prediction, latents, latents)
    weight = torch.tensor([1.0, 6.0]).view(1, 1, 1, 1, 2)
    assert flow.weighted_mean(error, weight) == pytest.approx(6 / 7)
    assert error.mean() == pytest.approx(0.5)


def test_balanced_frames_count_by_their_decibels() -> None:
    torch.manual_seed(0)
    scale = torch.tensor([0.01, 0.1, 1.0]).view(1, 1, 3, 1, 1)
    noise = torch.randn(2, 1, 3, 4, 6)
    background = torch.rand(noise.shape) < 0.8
    factor = torch.ones(2, 1, 3, 1, 1, requires_grad=True)
    error = (factor * scale * noise).square()
    weight = flow.frame_balance(error, background, 1.0, 0.0)
    total = (error * weight * background).sum()
    assert total.item() == pytest.approx((error * background).sum().item(), rel=1e-5)
    # Every frame gains the same by becoming better by the same share.
    (slopes,) = torch.autograd.grad((error * weight * background).sum((-2, -1)).sum(), factor)
    share = slopes / background.sum((-2, -1), keepdim=True)
    assert torch.allclose(share, share[:1, :, :1].expand_as(share), rtol=1e-4)
    even = flow.frame_balance(error, background, 0.0, 0.0)
    assert torch.allclose(even, torch.ones_like(even))


def test_noise_shares_are_stratified_and_shifted() -> None:
    sigma = flow.draw_sigmas(4000, 3.0, torch.Generator().manual_seed(0)).sort().values
    assert sigma[0] > 0 and sigma[-1] < 1
    assert sigma[2000] == pytest.approx(0.75, abs=0.01)  # shift 3 moves the median from 0.5


def test_so_many_noise_shares_as_asked_for_hide_the_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    sigma = flow.draw_sigmas(4000, 1.0, generator, blind_share=0.25)
    blind = sigma > flow.BLIND
    assert blind.sum() == pytest.approx(1000, abs=20)  # the others rarely lie so high
    assert sigma.max() < 1
    assert sigma[blind].mean() == pytest.approx((1 + flow.BLIND) / 2, abs=0.002)
    assert blind[:2000].sum() == pytest.approx(500, abs=60)  # in random order
