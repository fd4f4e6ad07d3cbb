# SPDX-License-Identifier: Apache-2.0
"""The memory bank: what goes in comes out, newest last, and snapshots never change."""

import time
from dataclasses import replace

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


def test_frames_are_gathered_from_anywhere_in_the_order_asked_for() -> None:
    bank = MemoryBank([segment(0, 5), segment(5, 3), segment(8, 2)])
    context = bank.gather([9, 2, 3, 6, 4])
    assert context.latents[0, :, 0, 0].tolist() == [9, 2, 3, 6, 4]
    assert context.times.tolist() == [9, 2, 3, 6, 4]
    assert context.poses[:, 0, 3].tolist() == [9, 2, 3, 6, 4]
    assert context.previous[:, 0, 3].tolist() == [8, 1, 2, 5, 3]
    assert bank.gather([0, 5, 8]).previous[:, 0, 3].tolist() == [0, 5, 8]  # each begins a clip
    with pytest.raises(ValueError, match="accepted: 0 to 9"):
        bank.gather([10])


def test_a_bank_tells_of_all_its_frames() -> None:
    bank = MemoryBank([segment(0, 2), replace(segment(2, 2), origin="observed")])
    assert bank.times.tolist() == [0, 1, 2, 3]
    assert bank.poses[:, 0, 3].tolist() == [0, 1, 2, 3]
    assert bank.observed.tolist() == [False, False, True, True]


def test_branches_of_one_history_do_not_see_each_other() -> None:
    trunk = MemoryBank().add(segment(0, 3))
    left = trunk.add(segment(3, 2))
    right = trunk.add(segment(10, 4))
    longer = left.add(segment(20, 1))
    assert trunk.times.tolist() == [0, 1, 2]
    assert left.times.tolist() == [0, 1, 2, 3, 4]
    assert right.times.tolist() == [0, 1, 2, 10, 11, 12, 13]
    assert longer.times.tolist() == [0, 1, 2, 3, 4, 20]
    assert right.gather(right.recent(5)).latents[0, :, 0, 0].tolist() == [2, 10, 11, 12, 13]


def test_thumbnails_are_found_by_frame() -> None:
    pictures = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1) * np.ones((1, 2, 3, 3), np.uint8)
    bank = MemoryBank([replace(segment(0, 4), thumbnails=pictures)])
    assert bank.thumbnails([3, 0])[:, 0, 0, 0].tolist() == [3, 0]
    assert bank.thumbnails([]).shape[0] == 0


def test_a_snapshot_of_ten_minutes_takes_less_than_a_millisecond() -> None:
    bank = MemoryBank()
    for number in range(450):
        bank = bank.add(segment(5 * number, 5))
    assert len(bank) == 2250
    took = []
    for number in range(20):
        began = time.perf_counter()
        bank.add(segment(20000 + number, 1))
        took.append(time.perf_counter() - began)
    # The snapshot is the bank itself, so what costs anything is to go on beside it.
    assert min(took) < 1e-3


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
