# SPDX-License-Identifier: Apache-2.0
"""Pictures obey the pinhole camera, and masks tell what is in them."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from hydra_model.procedural.cores import compile_core
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.renderer import render
from hydra_model.procedural.scenes import sample_scenes
from hydra_model.procedural.trajectories import optical_poses

HEIGHT, WIDTH, FOV_X = 96, 160, math.radians(70)
FOCAL = WIDTH / 2 / math.tan(FOV_X / 2)
NOW = torch.zeros(1, dtype=torch.float64)


def look_at(bearing, camera=(0.0, 0.0, 1.5), pitch=0.0):
    """Optical pose [1, 1, 4, 4] of a camera that looks along a bearing."""
    values = (torch.tensor(v, dtype=torch.float64)[None, None] for v in (camera, bearing, pitch))
    return optical_poses(*values)


def project(pose, point):
    """Pixel coordinates of a world point, and its depth, by the textbook."""
    x, y, z = np.linalg.inv(pose[0, 0].numpy())[:3] @ [*point, 1.0]
    return FOCAL * x / z + WIDTH / 2 - 0.5, FOCAL * y / z + HEIGHT / 2 - 0.5, z


def one_subject(x, y, blocks=()):
    """A world with one standing subject at (x, y), 1.6 m high, and 1 m cubes at ``blocks``."""
    scenes = sample_scenes(as_seeds(1))
    motion = dataclasses.replace(
        scenes.motion,
        active=torch.tensor([[True, False, False]]),
        centre=torch.tensor([[[x, y]] * 3], dtype=torch.float64),
        phase=torch.zeros_like(scenes.motion.phase),
        kind=torch.zeros_like(scenes.motion.kind),
    )
    half = torch.full_like(scenes.block_half, -1.0)
    centre = scenes.block_centre.clone()
    for i, place in enumerate(blocks):
        half[0, i] = 0.5
        centre[0, i] = torch.tensor(place)
    size = torch.tensor([[[1.6, 0.3]] * 3], dtype=torch.float64)
    return dataclasses.replace(
        scenes, motion=motion, subject_size=size, block_half=half, block_centre=centre,
        block_yaw=torch.zeros_like(scenes.block_yaw),
    )  # fmt: skip


@pytest.mark.parametrize("bearing", [0.0, 1.1, -2.0])
def test_a_subject_is_where_the_pinhole_camera_puts_it(bearing):
    x, y = 5 * math.cos(bearing + 0.2), 5 * math.sin(bearing + 0.2)
    pose = look_at(bearing, camera=(0.3, -0.2, 1.4), pitch=-0.05)
    _, ids, depth = render(one_subject(x, y), pose, NOW, HEIGHT, WIDTH, FOV_X, with_depth=True)
    rows, columns = np.nonzero(ids[0, 0].numpy() == 1)
    u, top, _ = project(pose, (x, y, 1.6))
    _, middle, _ = project(pose, (x, y, 0.8))
    _, bottom, z = project(pose, (x, y, 0.0))
    assert abs(columns.mean() - u) < 1
    assert abs(rows.min() - top) <= 1.5 and abs(rows.max() - bottom) <= 1.5
    seen = depth[0, 0, round(middle), round(u)].item()
    assert z - 0.35 < seen < z - 0.2  # a body of 0.3 m radius


def test_a_block_covers_its_projected_corners():
    scenes, pose = one_subject(-5.0, 0.0, [(5.0, 1.0)]), look_at(0.0)
    empty = one_subject(-5.0, 0.0)
    depth = [
        render(s, pose, NOW, HEIGHT, WIDTH, FOV_X, with_depth=True)[2][0, 0]
        for s in (scenes, empty)
    ]
    rows, columns = np.nonzero((depth[0] < depth[1]).numpy())
    corners = [
        project(pose, (x, y, z))[:2] for x in (4.5, 5.5) for y in (0.5, 1.5) for z in (0.0, 1.0)
    ]
    left, up = np.min(corners, 0)
    right, down = np.max(corners, 0)
    assert abs(columns.min() - left) < 1 and abs(columns.max() - right) < 1
    assert abs(rows.min() - up) < 1 and abs(rows.max() - down) < 1
    inside = depth[0][
        round(project(pose, (4.5, 1.0, 0.5))[1]), round(project(pose, (4.5, 1, 1))[0])
    ]
    assert inside.item() == pytest.approx(4.5, abs=1e-4)


def test_the_ground_is_at_its_depth():
    _, _, depth = render(
        one_subject(-5.0, 0.0), look_at(0.7), NOW, HEIGHT, WIDTH, FOV_X, with_depth=True
    )
    row = np.arange(60, HEIGHT)
    expected = 1.5 * FOCAL / (row + 0.5 - HEIGHT / 2)
    np.testing.assert_allclose(depth[0, 0, 60:, 33].numpy(), expected, rtol=1e-5)


def test_the_mask_is_where_the_subjects_colour_is():
    scenes = one_subject(5.0, 0.0)
    with_subject, ids = render(scenes, look_at(0.0), NOW, HEIGHT, WIDTH, FOV_X, supersample=1)
    away = one_subject(-5.0, 0.0)
    without, no_ids = render(away, look_at(0.0), NOW, HEIGHT, WIDTH, FOV_X, supersample=1)
    changed = (with_subject != without).any(-1)
    assert not no_ids.any()
    assert (changed & (ids > 0)).sum() > 0.95 * (ids > 0).sum()
    # Else only the contact shadow changes, which is on the ground and dark.
    outside = changed & (ids == 0)
    assert (with_subject.int().sum(-1) <= without.int().sum(-1))[outside].all()


@pytest.mark.parametrize(("place", "visible"), [((3.0, 0.0), False), ((7.5, 0.0), True)])
def test_a_block_hides_what_is_behind_it_alone(place, visible):
    scenes = one_subject(5.0, 0.0, [place])
    pose = look_at(0.0, camera=(0.0, 0.0, 0.5))
    _, ids = render(scenes, pose, NOW, HEIGHT, WIDTH, FOV_X)
    feet = ids[0, 0, int(project(pose, (5.0, 0.0, 0.3))[1]), WIDTH // 2]
    assert (feet.item() == 1) is visible


def test_panning_right_moves_the_picture_left():
    columns = []
    for yaw in (0.0, -0.2):  # right is clockwise from above
        _, ids = render(one_subject(5.0, 0.0), look_at(yaw), NOW, HEIGHT, WIDTH, FOV_X)
        columns.append(np.nonzero(ids[0, 0].numpy())[1].mean())
    assert columns[1] - columns[0] == pytest.approx(-FOCAL * math.tan(0.2), abs=1)


def test_a_picture_does_not_depend_on_the_batch():
    scenes = sample_scenes(as_seeds(range(4)))
    pose, times = look_at(0.4).expand(4, 3, 4, 4), torch.tensor([-3.0, 0.0, 2.0])
    together = render(scenes, pose, times, 48, 80, FOV_X)
    alone = render(sample_scenes(as_seeds(2)), pose[2:3], times, 48, 80, FOV_X)
    for one, other in zip(together, alone, strict=True):
        assert (one[2].int() - other[0].int()).abs().max() <= 1


def test_supersampling_averages_the_finer_picture():
    scenes, pose = sample_scenes(as_seeds(5)), look_at(0.0)
    coarse, _ = render(scenes, pose, NOW, 48, 80, FOV_X, supersample=2)
    fine, _ = render(scenes, pose, NOW, 96, 160, FOV_X, supersample=1)
    mean = fine.reshape(48, 2, 80, 2, 3).float().mean((1, 3))
    # Patterns are a little softer in the coarse picture's rays.
    assert (coarse[0, 0].float() - mean).abs().mean() < 1.0


def test_wrong_inputs_are_named():
    scenes, pose = sample_scenes(as_seeds([1, 2])), look_at(0.0)
    with pytest.raises(ValueError, match=r"camera_to_world .* \[2, T, 4, 4\]"):
        render(scenes, pose, NOW, HEIGHT, WIDTH, FOV_X)
    with pytest.raises(ValueError, match="times"):
        render(scenes[:1], pose, torch.zeros(5), HEIGHT, WIDTH, FOV_X)
    with pytest.raises(ValueError, match="fov_x"):
        render(scenes[:1], pose, NOW, HEIGHT, WIDTH, 70.0)


@pytest.mark.slow
def test_the_compiled_renderer_agrees_with_the_eager_one():
    scenes = sample_scenes(as_seeds([3, 4]))
    pose, times = look_at(0.4).expand(2, 2, 4, 4), torch.tensor([-3.0, 2.0])
    eager = render(scenes, pose, times, 48, 80, FOV_X, with_depth=True)
    compiled = render(scenes, pose, times, 48, 80, FOV_X, with_depth=True, core=compile_core())
    # Rays along an edge may fall on either side of it.
    assert ((eager[0].int() - compiled[0].int()).abs() > 1).double().mean() < 1e-3
    assert (eager[1] != compiled[1]).double().mean() < 1e-3
    torch.testing.assert_close(eager[2].median(), compiled[2].median())
