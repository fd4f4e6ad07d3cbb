# SPDX-License-Identifier: Apache-2.0
"""Muon (Jordan et al., 2024) with one orthogonalisation per matrix shape.

``torch.optim.Muon`` orthogonalises matrix by matrix: thousands of small launches a step,
a sixth of the training time of a model this small. Here matrices of one shape are stacked.
The update equals torch's (a test compares them).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

# Coefficients of the quintic Newton-Schulz iteration, from the Muon report.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised; the rate is scaled to match the size of AdamW's updates.

    ``params`` are matrices, or kernels of convolutions taken as [out, everything else]. The
    update's root mean square is about 0.2 times the rate
    (``adjust_lr_fn="match_rms_adamw"`` of ``torch.optim.Muon``).
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        iterations: int = 5,
    ) -> None:
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "iterations": iterations
        }  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    raise ValueError(f"Muon takes no vectors, got shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            gradients = [p.grad for p in params]
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, buffers, group["momentum"])  # Nesterov
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            shapes: dict[torch.Size, list[int]] = defaultdict(list)
            for i, p in enumerate(params):
                shapes[p.shape].append(i)
            for shape, members in shapes.items():
                stacked = torch.stack([updates[i].flatten(1) for i in members])
                scale = group["lr"] * 0.2 * max(stacked.shape[1:]) ** 0.5
                orthogonal = orthogonalise(stacked, group["iterations"]).to(params[0].dtype)
                torch._foreach_add_(
                    [params[i] for i in members], list(orthogonal.unflatten(2, shape[1:])),
                    alpha=-scale,
                )  # fmt: skip


def orthogonalise(matrices: Tensor, iterations: int = 5, eps: float = 1e-7) -> Tensor:
    """Bring all singular values of ``matrices [N, rows, columns]`` near 1, in bfloat16."""
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if tall else x
