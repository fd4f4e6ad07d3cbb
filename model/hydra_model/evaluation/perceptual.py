# SPDX-License-Identifier: Apache-2.0
"""LPIPS (Zhang et al. 2018), where the package and its weights can be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Unavailable:
    """A measure that is skipped, and why."""

    reason: str


# uint8 [T, H, W, 3] twice to float32 [T].
Lpips = Callable[[Tensor, Tensor], Tensor]


def open_lpips(device: torch.device | str = "cpu") -> Lpips | Unavailable:
    """Return LPIPS with AlexNet features, or why it cannot be had here."""
    try:
        import lpips
    except ImportError:
        return Unavailable("the package lpips is not installed (pip install 'hydra_ros[metrics]')")
    try:
        network = lpips.LPIPS(net="alex", verbose=False).to(device).eval()
    except Exception as error:  # what a missing download raises is not one kind
        return Unavailable(f"the weights of LPIPS cannot be loaded: {error}")

    @torch.inference_mode()
    def measure(prediction: Tensor, truth: Tensor) -> Tensor:
        pairs = zip(prediction.split(8), truth.split(8), strict=True)
        parts = [network(*(_signed(f, device) for f in pair)).flatten() for pair in pairs]
        return torch.cat(parts).cpu()

    return measure


def _signed(frames: Tensor, device: torch.device | str) -> Tensor:
    return frames.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
