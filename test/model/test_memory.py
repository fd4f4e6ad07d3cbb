# SPDX-License-Identifier: Apache-2.0
"""The memory bank: what goes in comes out, newest last, and snapshots never change."""

import numpy as np
import pytest
import torch

from hydra_model.memory import Latents, MemoryBank, Segment


def segment(first: int, count: int) -> Segment:
    """Latent frames that hold their own number, one a second."""
    numbers = torch.arange(first, first + count, dtype=torch.float32)
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = numbers.numpy()
    latents = numbers.view(1, count, 1, 1).expand(2, count, 3, 4)
    return Segment(Latents(latents), poses, numbers.double().numpy(), "imagined")


def test_the_recent_context_crosses_segments_oldest_first() -> None:
    bank = MemoryBank().add(segment(0, 5)).add(segment(5, 3)).add(segment(8, 1))
    context = bank.gather(bank.recent(6))
    assert context.latents[0, :, 0, 0].tolist() == [3, 4, 5, 6, 7, 8]
    assert context.times.tolist() == [3, 4, 5, 6, 7, 8]
    assert context.poses[:, 0, 3].tolist() == [3, 4, 5, 6, 7, 8]


def test_incomplete_groups_lose_their_oldest_frame() -> None:
    bank = MemoryBank().add(segment(0, 5))
    assert bank.recent(20, multiple=2).tolist() == [1, 2, 3, 4]
    assert bank.recent(3, multiple=2).tolist() == [3, 4]


def test_adding_leaves_the_older_bank_as_it_was_and_shares_its_storage() -> None:
    before = MemoryBank().add(segment(0, 5))
    after = before.add(segment(5, 5))
    assert (len(before), len(after)) == (5, 10)
    assert after.segments[0] is before.segments[0]


def test_time_does_not_run_backwards() -> None:
    bank = MemoryBank().add(segment(5, 2))
    with pytest.raises(ValueError, match=r"cannot follow memory that ends at 6\.000 s"):
        bank.add(segment(6, 2))


def test_too_little_memory_is_named() -> None:
    with pytest.raises(ValueError, match="holds 1 latent frames; at least 2"):
        MemoryBank().add(segment(0, 1)).recent(20, multiple=2)


def test_a_segment_whose_parts_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="segment of 2 latent frames got poses"):
        Segment(Latents(torch.zeros(1, 2, 3, 4)), np.zeros((3, 4, 4)), np.zeros(2), "observed")
