# SPDX-License-Identifier: Apache-2.0
"""Made-up weights: seconds and memory are those of real ones."""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def fill(module: nn.Module, generator: torch.Generator) -> None:
    """Draw weights that keep the size of what goes through them; norms are one, biases zero."""
    for name, parameter in module.named_parameters():
        owner, _, leaf = name.rpartition(".")
        if leaf == "gamma" or (leaf == "weight" and "norm" in owner.rpartition(".")[2]):
            parameter.fill_(1.0)
        elif leaf == "bias":
            parameter.zero_()
        else:
            fan_in = math.prod(parameter.shape[1:]) if leaf == "weight" else 2500
            parameter.normal_(std=fan_in**-0.5, generator=generator)
