# SPDX-License-Identifier: Apache-2.0
"""Poses and the 12-vectors that the model reads."""

import math

import numpy as np
import pytest

from hydra_model.cameras import (
    camera_vectors,
    check_poses,
    intrinsics,
    latent_poses,
    relative_poses,
    unreal_to_optical,
    vectors_to_poses,
)


def pose(position, yaw=0.0):
    """An optical camera at ``position`` that looks along x, turned left by ``yaw`` radians."""
    matrix = np.eye(4)
    forward = np.array([math.cos(yaw), math.sin(yaw), 0.0])
    down = np.array([0.0, 0.0, -1.0])
    matrix[:3, :3] = np.stack([np.cross(down, forward), down, forward], axis=1)
    matrix[:3, 3] = position
    return matrix


def test_intrinsics_put_the_edge_of_the_view_at_the_edge_of_the_image():
    matrix = intrinsics(160, 96, math.radians(70))
    half = math.tan(math.radians(35))
    right, centre = matrix @ (half, 0, 1), matrix @ (0, 0, 1)
    assert right[0] == pytest.approx(159.5)  # the outer edge of pixel 159
    assert tuple(centre[:2]) == pytest.approx((79.5, 47.5))
    assert matrix[0, 0] == matrix[1, 1]


@pytest.mark.parametrize("bad", [(0, 96, 1.0), (160, 96, 0.0), (160, 96, math.pi)])
def test_intrinsics_refuse_impossible_cameras(bad):
    with pytest.raises(ValueError, match="must"):
        intrinsics(*bad)


def test_a_camera_one_metre_ahead_is_one_metre_along_the_optical_axis():
    reference = pose((3.0, -2.0, 1.0), yaw=0.7)
    ahead = pose(reference[:3, 3] + reference[:3, 2], yaw=0.7)
    vector = camera_vectors(ahead[None], reference)
    assert vector.dtype == np.float32
    assert vector[0] == pytest.approx([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1], abs=1e-6)


def test_relative_poses_undo_the_reference():
    reference, other = pose((300.0, 20.0, 1.0), 0.3), pose((301.0, 20.5, 1.2), -1.0)
    relative = relative_poses(other[None], reference)
    assert reference @ relative[0] == pytest.approx(other)


def test_vectors_become_poses_of_a_level_camera_at_the_origin():
    vectors = camera_vectors(np.stack([pose((0, 0, 0)), pose((1, 2, 3), 0.5)]), pose((0, 0, 0)))
    poses = vectors_to_poses(vectors)
    assert poses[0] == pytest.approx(pose((0, 0, 0)), abs=1e-6)
    assert poses[1] == pytest.approx(pose((1, 2, 3), 0.5), abs=1e-6)


def test_an_unreal_camera_keeps_its_view_in_a_right_handed_world():
    unreal = np.eye(4)
    unreal[:3, 3] = (100.0, 200.0, 300.0)  # cm forward, right, up; it looks along X
    assert unreal_to_optical(unreal) == pytest.approx(pose((1.0, -2.0, 3.0)))
    yaw = 0.4  # Unreal turns right for a positive yaw
    unreal[:2, :2] = [[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]]
    turned = unreal_to_optical(unreal[None])
    assert turned[0] == pytest.approx(pose((1.0, -2.0, 3.0), yaw=-0.4))
    assert check_poses(turned) is not None


def test_latent_poses_are_the_first_and_every_fourth():
    poses = np.arange(9.0)[:, None, None] * np.ones((4, 4))
    assert latent_poses(poses)[:, 0, 0].tolist() == [0, 4, 8]
    with pytest.raises(ValueError, match=r"8 poses; accepted: 1 \+ 4\*n"):
        latent_poses(poses[:8])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[0], "shape"),
        (lambda p: p[:0], "shape"),
        (lambda p: "poses", "not numbers"),
        (lambda p: with_entry(p, (1, 0, 3), np.nan), r"track\[1\] holds a number that is not"),
        (lambda p: with_entry(p, (1, 3, 0), 0.5), r"track\[1\] must end in row 0 0 0 1"),
        (lambda p: with_entry(p, (1, 0, 2), 0.5), r"track\[1\] has a rotation that is not orth"),
        (lambda p: p * np.array([-1, 1, 1, 1])[:, None], r"track\[0\] has a left-handed"),
    ],
)
def test_bad_poses_are_named(change, message):
    poses = np.stack([pose((0, 0, 0)), pose((1, 0, 0)), pose((2, 0, 0))])
    with pytest.raises(ValueError, match=message):
        check_poses(change(poses), "track")


def with_entry(array, index, value):
    array = array.copy()
    array[index] = value
    return array
