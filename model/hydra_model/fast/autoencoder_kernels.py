# SPDX-License-Identifier: Apache-2.0
"""The autoencoder's norm and activation in one pass, for channels-last feature maps on a GPU.

Step by step they read and write a feature map four times over; at full resolution one map of a
clip is 6 GB. A position's channels lie side by side in ``channels_last_3d``: a row of a matrix.
"""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def takes(x: Tensor) -> bool:
    """Whether ``norm_silu`` runs for this feature map ``[B, C, T, H, W]``: inference on a GPU."""
    return (
        x.is_cuda
        and not torch.compiler.is_compiling()
        and not (torch.is_grad_enabled() and x.requires_grad)
        and x.is_contiguous(memory_format=torch.channels_last_3d)
        and _has_triton()
    )


def norm_silu(x: Tensor, gain: Tensor) -> Tensor:
    """Scale every position's channels to a mean square of 1, times ``gain [C]``, then SiLU."""
    from hydra_model.fast import kernels

    rows = x.permute(0, 2, 3, 4, 1)
    return kernels.normalise_silu(rows, gain.flatten()).permute(0, 4, 1, 2, 3)
