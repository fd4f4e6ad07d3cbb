# SPDX-License-Identifier: Apache-2.0
"""Worlds of the style "rich": walls with doorways, subjects that are told apart, cast shadows."""

import dataclasses
import math

import pytest
import torch

from hydra_model.evaluation.locate import HUE_TOLERANCE, hue_distance, own_hue
from hydra_model.procedural import render_worlds, sample_worlds
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.renderer import pack_geometry, render
from hydra_model.procedural.scenes import RICH_BLOCKS, sample_scenes
from hydra_model.procedural.shadows import cast_by_block, cast_by_subject
from hydra_model.procedural.subjects import CART
from hydra_model.procedural.trajectories import optical_poses
from hydra_model.procedural.visibility import FAR

TIMES = torch.linspace(-5, 5, 11, dtype=torch.float64)


@pytest.fixture(scope="module")
def worlds():
    return sample_worlds(range(16), family="look_away", style="rich")


@pytest.fixture(scope="module")
def shown(worlds):
    return render_worlds(worlds, TIMES, height=48, width=80)


def without_blocks(scenes):
    return dataclasses.replace(scenes, block_half=torch.full_like(scenes.block_half, -1.0))


def test_most_worlds_have_walls_and_none_is_all_walls():
    scenes = sample_scenes(as_seeds(range(200)), "rich")
    walls = scenes.block_half[:, RICH_BLOCKS:]
    length = (2 * walls[..., 0].clamp(min=0)).sum(1)
    assert (length > 10).double().mean() > 0.7
    assert length.max() < 80
    assert (scenes.block_half[:, :RICH_BLOCKS, 0] > 0).sum(1).min() >= 2


def test_walls_hide_subjects_now_and_then(worlds, shown):
    _, _, ids = shown
    poses = worlds.trajectories.poses(TIMES)
    _, unhidden = render(without_blocks(worlds.scenes), poses, TIMES, 48, 80, math.radians(70))
    hidden = (unhidden > 0) & (ids != unhidden)
    share = hidden.double().sum() / (unhidden > 0).double().sum()
    assert 0.02 < share < 0.4


def test_a_subject_is_known_by_its_hue(worlds, shown):
    frames, _, ids = shown
    off = []
    for world, colors in enumerate(worlds.scenes.subject_color):
        for subject, color in enumerate(colors):
            mask = ids[world : world + 1] == subject + 1
            if mask.sum() > 40:
                pixel = (color * 255).round().to(torch.uint8).expand(1, 1, 1, 1, 3)
                true = own_hue(pixel, torch.ones(1, 1, 1, 1, dtype=torch.bool))
                off.append(hue_distance(own_hue(frames[world : world + 1], mask), true).item())
    assert len(off) > 8
    assert max(off) < HUE_TOLERANCE / 2  # no NaN: the colour is there


@pytest.mark.parametrize("caster", ["block", "subject"])
def test_shadows_fall_away_from_the_sun(caster):
    sun = torch.tensor([[0.6, 0.0, 0.8]])  # in the direction of +x, 53 degrees high
    x, y = torch.tensor([[-2.3, -0.7, 0.7, -0.7]]), torch.tensor([[0.0, 0.0, 0.0, 0.8]])
    light = torch.ones_like(x)
    if caster == "block":
        block = torch.tensor([[0.0, 0.0, 0.3, 0.3, 1.0, 1.0, 0.0]])  # 2 m high
        light = cast_by_block(x, y, block, sun, light)
    else:
        form = [0.41, 0.41, 0.875, 0.125, 0.125, 0.33, 0.0]
        subject = torch.tensor([[0.0, 0.0, 1.0, 0.0, 2.0, 0.3, *form]])
        light = cast_by_subject(x, y, subject, sun, light)
    beyond_its_end, in_it, towards_the_sun, beside_it = light[0].tolist()
    assert in_it < 0.7
    assert beyond_its_end == towards_the_sun == beside_it == 1


def test_a_carts_box_is_where_its_sizes_say():
    scenes = without_blocks(sample_scenes(as_seeds(range(60)), "rich"))
    cart = (scenes.subject_shape[:, 0, -1] > 0) & (CART == 1)
    scenes = scenes[cart.nonzero()[:, 0][:8]]
    now = torch.zeros(1, dtype=torch.float64)
    subject = pack_geometry(scenes, now).subjects[:, 0].double()
    bearing = torch.atan2(subject[:, 1], subject[:, 0])[:, None]
    camera = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64).expand(len(scenes), 1, 3)
    distance = subject[:, :2].norm(dim=-1)
    pitch = -torch.atan2(3 - 2 * subject[:, 7] * subject[:, 4], distance)[:, None]
    poses = optical_poses(camera, bearing, pitch)
    _, ids, depth = render(scenes, poses, now, 49, 81, 1.0, supersample=1, with_depth=True)
    # The middle ray meets the middle of the box's upper face or the mast before it.
    straight = torch.hypot(distance, 3 - 2 * subject[:, 7] * subject[:, 4])
    met = depth[:, 0, 24, 40]
    assert (ids[:, 0, 24, 40] == 1).all() and (met < FAR).all()
    assert ((met - straight).abs() < 0.35).all()
