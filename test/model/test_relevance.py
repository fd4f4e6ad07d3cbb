# SPDX-License-Identifier: Apache-2.0
"""Relevance by the share of attention: which memory frames a frame would attend to."""

import pytest
import torch

from hydra_model.attention import attended_share, select_memory
from hydra_model.config import TransformerConfig

HEADS, DIM = 2, 16


def frames(count: int, rows: int = 4, columns: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randn(1, count, rows, columns, DIM, generator=generator)


def test_where_queries_are_alike_it_is_the_share_of_the_softmax() -> None:
    # Groups of 2x2 equal queries: pooling changes nothing, so it is exact.
    query = frames(3, 2, 3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    key = frames(5).flatten(2, 3)
    share = attended_share(query, key, HEADS)
    q, k = (t.flatten(1, -2).unflatten(-1, (HEADS, -1)) for t in (query, key))
    weights = (torch.einsum("bqhd,bkhd->bhqk", q, k) * (DIM / HEADS) ** -0.5).softmax(-1)
    expected = weights.view(1, HEADS, 3, 24, 5, 24).sum(-1).mean((1, 3))
    torch.testing.assert_close(share, expected)
    torch.testing.assert_close(share.sum(-1), torch.ones(1, 3))


def test_a_frame_is_found_whose_picture_has_moved() -> None:
    memory = 4 * frames(6)
    query = memory[:, [2, 5]].roll(2, dims=3)
    share = attended_share(query, memory.flatten(2, 3), HEADS)
    assert select_memory(share, 1).flatten().tolist() == [2, 5]


@pytest.mark.parametrize("grid", [(1, 1), (3, 5)])
def test_grids_need_not_be_even(grid: tuple[int, int]) -> None:
    share = attended_share(frames(2, *grid), frames(3, *grid).flatten(2, 3), HEADS)
    assert share.shape == (1, 2, 3)
    assert torch.isfinite(share).all()


def test_it_is_for_a_context_of_its_own() -> None:
    with pytest.raises(ValueError, match="relevance 'attended' needs memory_source 'context'"):
        TransformerConfig(relevance="attended")
