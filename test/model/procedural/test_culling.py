# SPDX-License-Identifier: Apache-2.0
"""What a picture leaves out would not change it."""

import math

import pytest
import torch

from hydra_model.procedural import render, sample_worlds
from hydra_model.procedural.cores import render_core, render_pieces
from hydra_model.procedural.culling import Needed, bounds
from hydra_model.procedural.visibility import Geometry

RIGHT, BOTTOM = 0.7, 0.42  # where the view ends, at distance 1


@pytest.mark.parametrize("style", ["plain", "rich"])
@pytest.mark.parametrize(("height", "width", "worlds"), [(96, 160, 4), (24, 40, 12)])
def test_what_is_left_out_of_a_picture_would_not_change_it(style, height, width, worlds):
    drawn = sample_worlds(range(worlds), style=style)
    times = torch.linspace(-5, 3, 5, dtype=torch.float64)
    poses = drawn.trajectories.poses(times)
    size = (height, width, math.radians(70))
    pieces, whole = (
        render(drawn.scenes, poses, times, *size, with_depth=True, core=core)
        for core in (render_pieces, render_core)
    )
    for ours, all_of_it in zip(pieces, whole, strict=True):
        assert torch.equal(ours, all_of_it)


def needed_beside_the_view(gap: float) -> Needed:
    """What a camera at a height of 1 m needs of a block so many metres right of its view."""
    looks_ahead = torch.tensor(
        [[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]]
    )  # along x
    half, ahead = 0.25, 4.0
    aside = RIGHT * (ahead + half) + gap + half
    block = torch.tensor([ahead, -aside, half, half, half, 1.0, 0.0])
    geometry = Geometry(block[None, None], torch.full((1, 0, 13), 0.0))
    overhead = torch.tensor([[0.0, 0.0, 1.0]])
    prisms = bounds(looks_ahead[None], geometry, overhead)
    return prisms.needed(slice(0, 1), RIGHT, -BOTTOM, BOTTOM)


@pytest.mark.parametrize(
    ("gap", "shows", "darkens"), [(-0.1, [0], [0]), (0.25, [], [0]), (1.0, [], [])]
)
def test_a_block_out_of_view_darkens_the_ground_around_it(gap, shows, darkens):
    needed = needed_beside_the_view(gap)
    assert (needed.blocks, needed.darkening_blocks) == (shows, darkens)
