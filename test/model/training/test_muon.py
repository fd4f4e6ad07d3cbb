# SPDX-License-Identifier: Apache-2.0
"""Our batched Muon against PyTorch's."""

import pytest
import torch
from torch import nn

from hydra_model.training.muon import Muon, orthogonalise


def test_it_takes_the_same_steps_as_torchs_matrix_by_matrix() -> None:
    torch.manual_seed(0)
    shapes = [(32, 32), (64, 32), (32, 64), (32, 32)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    options = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.95}
    rules = [
        Muon(ours, **options),
        torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options),
    ]
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape)
            q.grad = p.grad.clone()
        for rule in rules:
            rule.step()
    for p, q in zip(ours, theirs, strict=True):
        assert torch.allclose(p, q, atol=1e-4)


def test_a_kernel_is_treated_as_the_matrix_of_its_outputs() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(8, 4, 3, 3))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    kernel.grad = torch.randn(kernel.shape)
    matrix.grad = kernel.grad.flatten(1).clone()
    for p in (kernel, matrix):
        Muon([p], lr=0.1).step()
    assert torch.allclose(kernel.flatten(1), matrix)


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(3, 24, 48)).float())
    assert values.min() > 0.5 and values.max() < 1.5


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="no vectors"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)
