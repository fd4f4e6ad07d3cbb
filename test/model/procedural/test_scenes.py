# SPDX-License-Identifier: Apache-2.0
"""Worlds depend on their seed alone, and nothing in them is in the way."""

import colorsys

import pytest
import torch

from hydra_model.procedural.colors import hsv_to_rgb
from hydra_model.procedural.motion import STYLES
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.scenes import CAMERA_CLEARANCE, sample_scenes


@pytest.fixture(scope="module")
def plain():
    return sample_scenes(as_seeds(range(200)))


@pytest.fixture(scope="module", params=STYLES)
def scenes(request, plain):
    if request.param == plain.style:
        return plain
    return sample_scenes(as_seeds(range(200)), request.param)


def test_a_world_is_the_same_alone_and_in_a_batch(scenes):
    alone = sample_scenes(as_seeds(137), scenes.style)

    def compare(one, other):
        for name, value in vars(one).items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(value, getattr(other, name), rtol=1e-12, atol=1e-12)
            elif not isinstance(value, str):
                compare(value, getattr(other, name))

    compare(scenes[137:138], alone)


def test_there_are_six_to_ten_blocks_all_around(plain):
    scenes = plain
    there = scenes.block_half[:, :, 0] > 0
    assert there.sum(1).min() >= 6 and there.sum(1).max() == 10
    bearing = torch.atan2(scenes.block_centre[..., 1], scenes.block_centre[..., 0])
    for world in range(len(there)):
        sides = torch.floor(bearing[world][there[world]] / (torch.pi / 2)).unique()
        assert len(sides) >= 3


def test_no_subject_ever_walks_through_a_block(scenes):
    times = torch.linspace(-60, 6, 400, dtype=torch.float64)
    position = scenes.motion.position(times)[:, :, :, None]  # [B, T, S, 1, 2]
    offset = position - scenes.block_centre[:, None, None]
    cos, sin = (f(scenes.block_yaw)[:, None, None] for f in (torch.cos, torch.sin))
    along = (cos * offset[..., 0] + sin * offset[..., 1]).abs()
    across = (cos * offset[..., 1] - sin * offset[..., 0]).abs()
    half = scenes.block_half[:, None, None]
    body = scenes.subject_size[..., 1].maximum(scenes.subject_shape[..., -1])[:, None, :, None]
    inside = (along < half[..., 0] + body) & (across < half[..., 1] + body) & (half[..., 0] > 0)
    assert not (inside & scenes.motion.active[:, None, :, None]).any()


def test_blocks_leave_the_camera_room(scenes):
    there = scenes.block_half[:, :, 0] > 0
    x, y = scenes.block_centre.unbind(-1)
    cos, sin = scenes.block_yaw.cos(), scenes.block_yaw.sin()
    along = ((cos * x + sin * y).abs() - scenes.block_half[..., 0]).clamp(min=0)
    across = ((cos * y - sin * x).abs() - scenes.block_half[..., 1]).clamp(min=0)
    assert torch.hypot(along, across)[there].min() > CAMERA_CLEARANCE


def test_hues_of_subjects_are_saturated_and_sixty_degrees_apart(scenes):
    for colors in scenes.subject_color.tolist():
        hues = []
        for color in colors:
            hue, saturation, value = colorsys.rgb_to_hsv(*color)
            assert saturation > 0.99 and value > 0.8
            hues.append(hue)
        for i, first in enumerate(hues):
            for second in hues[:i]:
                apart = abs(first - second)
                assert min(apart, 1 - apart) > 1 / 6 - 1e-6


def test_colours_are_those_of_the_standard_conversion():
    hsv = torch.rand(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.tensor([colorsys.hsv_to_rgb(*row) for row in hsv.tolist()]).double()
    torch.testing.assert_close(hsv_to_rgb(*hsv.unbind(1)), expected, rtol=0, atol=1e-6)
