# SPDX-License-Identifier: Apache-2.0
"""Random numbers depend on seed and name alone."""

import pytest
import torch

from hydra_model.procedural.random import as_seeds, choice, random_bits, uniform


def test_a_number_does_not_depend_on_the_other_seeds_of_the_batch():
    many = random_bits(as_seeds(range(50)), "stream", 4, 3)
    one = random_bits(as_seeds(31), "stream", 4, 3)
    assert torch.equal(many[31:32], one)


def test_a_number_does_not_depend_on_how_many_are_drawn():
    assert torch.equal(
        uniform(as_seeds(7), "stream", 100)[:, :5], uniform(as_seeds(7), "stream", 5)
    )


def test_streams_and_seeds_give_different_numbers():
    draws = torch.cat(
        [random_bits(as_seeds([0, 1, -1, 2**64 - 2, 2**63]), name, 1000) for name in ("a", "b")]
    )
    assert draws.unique().numel() == draws.numel()


def test_uniform_fills_its_range_evenly():
    draw = uniform(as_seeds(range(1000)), "stream", 100, low=-2.0, high=3.0)
    assert draw.min() >= -2 and draw.max() < 3
    counts = torch.histc(draw, 20, -2, 3)
    # 5000 expected in each bin; 5 standard deviations.
    assert (counts - 5000).abs().max() < 5 * 5000**0.5


def test_neighbouring_seeds_are_not_correlated():
    draw = uniform(as_seeds(range(100_000)), "stream", 1)[:, 0]
    correlation = torch.corrcoef(torch.stack([draw[:-1], draw[1:]]))[0, 1]
    assert correlation.abs() < 0.016  # 5 standard deviations


def test_choice_follows_its_weights():
    index = choice(as_seeds(range(20_000)), "stream", (1.0, 0.0, 3.0))
    share = torch.bincount(index, minlength=3) / len(index)
    assert torch.allclose(share, torch.tensor([0.25, 0.0, 0.75]), atol=0.02)


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match="seeds are"):
        as_seeds(torch.zeros(3))
    with pytest.raises(ValueError, match="weights"):
        choice(as_seeds(1), "stream", (0.0, 0.0))
