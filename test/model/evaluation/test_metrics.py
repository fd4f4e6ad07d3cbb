# SPDX-License-Identifier: Apache-2.0
"""Picture measures against hand-made cases and independent computations."""

import math

import numpy as np
import pytest
import torch

from hydra_model.evaluation import metrics


def noisy_pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8)
    noise = torch.randint(-30, 31, truth.shape, generator=generator)
    return (truth.int() + noise).clamp(0, 255).to(torch.uint8), truth


def test_psnr_of_a_known_error():
    truth = torch.full((2, 3, 8, 10, 3), 100, dtype=torch.uint8)
    prediction = truth.clone()
    prediction[1, 2] = 110
    values = metrics.psnr(prediction, truth)
    assert values.shape == (2, 3)
    assert values[1, 2].item() == pytest.approx(20 * math.log10(255 / 10), abs=1e-4)
    assert values[0, 0].item() == metrics.HIGHEST_PSNR
    # Darker is as wrong as brighter: uint8 differences must not wrap around.
    prediction[1, 2] = 90
    assert metrics.psnr(prediction, truth)[1, 2] == values[1, 2]
    # A clip pools its error before the logarithm: one bad frame of three.
    pooled = 10 * math.log10(255**2 / (100 / 3))
    assert metrics.clip_psnr(prediction, truth)[1].item() == pytest.approx(pooled, abs=1e-4)


def test_masked_psnr_sees_only_what_the_mask_shows():
    truth = torch.zeros(1, 8, 10, 3, dtype=torch.uint8)
    prediction = truth.clone()
    prediction[:, :, 5:] = 51
    left = torch.zeros(1, 8, 10, dtype=torch.bool)
    left[:, :, :5] = True
    assert metrics.masked_psnr(prediction, truth, left).item() == metrics.HIGHEST_PSNR
    assert metrics.masked_psnr(prediction, truth, ~left).item() == pytest.approx(
        20 * math.log10(5), abs=1e-4
    )
    assert metrics.masked_psnr(prediction, truth, torch.zeros_like(left)).isnan().all()


def test_dilate_grows_by_the_radius():
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 4, 4] = True
    grown = metrics.dilate(mask, 2)
    assert grown.sum() == 25
    assert grown[0, 2:7, 2:7].all()


def test_ssim_agrees_with_a_direct_computation():
    prediction, truth = noisy_pair(1, 24, 30)
    offsets = np.arange(11) - 5
    taps = np.exp(-0.5 * (offsets / 1.5) ** 2)
    window = np.outer(taps, taps) / taps.sum() ** 2
    values = []
    for channel in range(3):
        a, b = (x[0, ..., channel].double().numpy() for x in (prediction, truth))
        for row in range(24 - 10):
            for column in range(30 - 10):
                p, q = (x[row : row + 11, column : column + 11] for x in (a, b))
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p = (window * (p - mean_p) ** 2).sum()
                var_q = (window * (q - mean_q) ** 2).sum()
                covariance = (window * (p - mean_p) * (q - mean_q)).sum()
                c1, c2 = 2.55**2, 7.65**2
                values.append(
                    (2 * mean_p * mean_q + c1) * (2 * covariance + c2)
                    / ((mean_p**2 + mean_q**2 + c1) * (var_p + var_q + c2))
                )  # fmt: skip
    assert metrics.ssim(prediction, truth).item() == pytest.approx(np.mean(values), abs=1e-5)


def test_ssim_agrees_with_scikit_image():
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    prediction, truth = noisy_pair(2, 40, 56)
    for got, a, b in zip(metrics.ssim(prediction, truth), prediction, truth, strict=True):
        expected = skimage.structural_similarity(
            a.numpy(), b.numpy(), channel_axis=-1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, data_range=255,
        )  # fmt: skip
        assert got.item() == pytest.approx(expected, abs=1e-5)


def test_ssim_of_flat_frames_is_exact():
    truth = torch.full((1, 16, 16, 3), 251, dtype=torch.uint8)
    assert metrics.ssim(truth, truth).item() == pytest.approx(1, abs=1e-6)


def test_wrong_frames_are_named():
    frames = torch.zeros(1, 8, 10, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"prediction is torch\.float32"):
        metrics.psnr(frames.float(), frames)
    with pytest.raises(ValueError, match="but the truth"):
        metrics.psnr(frames[:, :4], frames)
    with pytest.raises(ValueError, match="mask is"):
        metrics.masked_psnr(frames, frames, frames[..., 0])
