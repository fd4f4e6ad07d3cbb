# SPDX-License-Identifier: Apache-2.0
"""Compares retrieval attention in kernels, and its gradients, with the readable form."""

import os
import sys

import torch

from hydra_model import attention
from hydra_model.training import retrieval_kernels as kernels

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def compare(
    batch: int, frames: int, memory: int, tokens: int, heads: int, channels: int, window: int,
    top_k: int,
) -> list[float]:  # fmt: skip
    """Relative errors of what is attended and of the five gradients."""
    torch.manual_seed(batch + tokens)

    def normal(count: int) -> torch.Tensor:
        return torch.randn(batch, count, tokens, heads * channels, device=DEVICE)

    operands = [normal(n) for n in (frames, frames, frames, memory, memory)]
    outer = normal(frames)
    windows = attention.window_frames(frames, window, operands[0].device)
    scores = torch.rand(batch, frames, memory, device=DEVICE)
    selected = attention.select_memory(scores, top_k)
    results = []
    for form in (attention.retrieval_attention, kernels.retrieval_attention):
        leaves = [t.clone().requires_grad_() for t in operands]
        out = form(*leaves, windows, selected, heads)
        results.append([out.detach(), *torch.autograd.grad((out * outer).sum(), leaves)])
    return [((a - b).norm() / b.norm()).item() for b, a in zip(*results, strict=True)]


def main() -> int:
    if DEVICE == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        shapes = [(2, 20, 20, 60, 6, 64, 5, 8), (1, 6, 7, 150, 2, 128, 3, 4)]
    else:
        shapes = [(2, 4, 3, 9, 2, 16, 3, 2), (1, 3, 4, 70, 1, 16, 2, 3)]
    worst = 0.0
    for shape in shapes:
        errors = compare(*shape)
        print(shape, " ".join(f"{e:.2g}" for e in errors))
        worst = max(worst, *errors)
    return 0 if worst < (2e-5 if DEVICE == "cpu" else 2e-3) else 1


if __name__ == "__main__":
    sys.exit(main())
