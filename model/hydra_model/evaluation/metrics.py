# SPDX-License-Identifier: Apache-2.0
"""Picture quality per frame, on uint8 frames: PSNR, PSNR of some pixels, SSIM.

Frames are uint8 [..., H, W, 3]; masks are bool [..., H, W]; everything is batched and runs
where its tensors are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

HIGHEST_PSNR = 100.0  # dB; what equal frames get, so that means stay finite
_SSIM_TAPS, _SSIM_SIGMA = 11, 1.5
_FRAMES_AT_ONCE = 1024  # of one channel: bounds the memory that SSIM takes


def decibels(mean_squared_error: Tensor) -> Tensor:
    """Turn mean squared errors of 0..255 values into PSNR, at most ``HIGHEST_PSNR``."""
    psnr = 10 * torch.log10(255.0**2 / mean_squared_error.clamp(min=1e-12))
    return psnr.clamp(max=HIGHEST_PSNR)


def squared_error(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return each pixel's squared error, mean over the channels, float32 [..., H, W]."""
    _check_pair(prediction, truth)
    # Integers are exact, and take a fourth of the memory of a float difference.
    difference = prediction.to(torch.int16) - truth.to(torch.int16)
    return difference.float().square().mean(-1)


def psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return the PSNR of every frame in dB, float32 [...]."""
    return decibels(squared_error(prediction, truth).mean((-2, -1)))


def clip_psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return the PSNR of every clip [..., T, H, W, 3] in dB, its error pooled over all frames."""
    return decibels(squared_error(prediction, truth).mean((-3, -2, -1)))


def masked_psnr(prediction: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Return the PSNR of every frame's pixels under ``mask`` in dB; NaN where there are none."""
    if mask.dtype != torch.bool or mask.shape != truth.shape[:-1]:
        raise ValueError(
            f"mask is {mask.dtype} {tuple(mask.shape)}; accepted is bool {tuple(truth.shape[:-1])}"
        )
    error = squared_error(prediction, truth) * mask
    count = mask.sum((-2, -1))
    return torch.where(count > 0, decibels(error.sum((-2, -1)) / count.clamp(min=1)), torch.nan)


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Widen bool masks [..., H, W] by ``radius`` pixels in all eight directions."""
    kind = torch.float16 if mask.is_cuda else torch.float32
    flat = mask.reshape(-1, 1, *mask.shape[-2:]).to(kind)
    return F.max_pool2d(flat, 2 * radius + 1, 1, radius).reshape(mask.shape) > 0


def ssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return every frame's structural similarity, mean over the channels, float32 [...].

    Wang et al. 2004: Gaussian window of 11 taps with a deviation of 1.5, k1 = 0.01, k2 = 0.03,
    and only windows that lie inside the frame (scikit-image's with ``gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False``).
    """
    _check_pair(prediction, truth)
    height, width = truth.shape[-3:-1]
    if min(height, width) < _SSIM_TAPS:
        raise ValueError(f"frames of {width}x{height} pixels; SSIM needs at least {_SSIM_TAPS}")
    # Channels become frames of their own.
    planes = [frames.movedim(-1, -3).reshape(-1, height, width) for frames in (prediction, truth)]
    pieces = zip(*(p.split(_FRAMES_AT_ONCE) for p in planes), strict=True)
    values = torch.cat([_ssim_planes(a.float(), b.float()) for a, b in pieces])
    return values.reshape(*truth.shape[:-3], 3).mean(-1)


def _ssim_planes(a: Tensor, b: Tensor) -> Tensor:
    offsets = torch.arange(_SSIM_TAPS, dtype=torch.float64) - _SSIM_TAPS // 2
    taps = torch.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    weights = (taps / taps.sum()).tolist()

    def blur_along(x: Tensor, dim: int) -> Tensor:
        # No convolution: on a GPU that may round to TF32, which flat regions cannot stand.
        size = x.shape[dim] - _SSIM_TAPS + 1
        total = x.narrow(dim, 0, size) * weights[0]
        for i, weight in enumerate(weights[1:], 1):
            total.add_(x.narrow(dim, i, size), alpha=weight)
        return total

    def blur(x: Tensor) -> Tensor:
        return blur_along(blur_along(x, -2), -1)

    # Grey is taken off first: variances are differences of squares.
    a, b = a - 127.5, b - 127.5
    mean_a, mean_b = blur(a), blur(b)
    variance_a = blur(a * a) - mean_a**2
    variance_b = blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = mean_a + 127.5, mean_b + 127.5
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    likeness = likeness / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
    return likeness.mean((-2, -1))


def _check_pair(prediction: Tensor, truth: Tensor) -> None:
    for name, frames in (("prediction", prediction), ("truth", truth)):
        if frames.dtype != torch.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
            raise ValueError(
                f"{name} is {frames.dtype} {tuple(frames.shape)}; accepted is uint8 [..., H, W, 3]"
            )
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction is {tuple(prediction.shape)}, but the truth {tuple(truth.shape)}"
        )
