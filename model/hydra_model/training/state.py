# SPDX-License-Identifier: Apache-2.0
"""Everything a training run needs to go on exactly where it stopped."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of a module's weights, with a warm-up of its length."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        own, live = list(self.weights.values()), list(module.state_dict().values())
        torch._foreach_lerp_(own, live, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, value in state["weights"].items():
            self.weights[name].copy_(value)


def save_run(path: Path, **parts: Any) -> None:
    """Write a run's state; a run that is killed while writing keeps its last one."""
    partial = path.with_suffix(".partial")
    torch.save(parts, partial)
    os.replace(partial, path)


def load_run(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read what ``save_run`` wrote, or None where there is nothing yet.

    A file that is damaged is a ``ValueError`` that says what to do.
    """
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except torch.OutOfMemoryError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200] or "it is empty"
        raise ValueError(
            f"{path} cannot be read ({reason}); remove it to begin this part of the run anew, or "
            "put an undamaged one in its place"
        ) from error
    return state


def learning_rate_scale(step: int, total: int, warmup: int = 200, decay: float = 0.3) -> float:
    """Return the share of the peak rate: warm up, stay, fall linearly over the last part."""
    if step < warmup:
        return (step + 1) / warmup
    left = (total - step) / max(1.0, decay * total)
    return max(0.0, min(1.0, left))


def to_half(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous bfloat16 copies on the CPU, for shipping."""
    return {k: v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in weights.items()}
