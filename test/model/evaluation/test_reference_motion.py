# SPDX-License-Identifier: Apache-2.0
"""The reference by straight continuation."""

import math

import torch

from hydra_model.evaluation.reference_motion import Camera, linear_extrapolation, visible_centre
from hydra_model.procedural.trajectories import optical_poses

CAMERA = Camera(96, 160, math.radians(70))


def test_a_line_is_continued_exactly_also_across_gaps():
    times = torch.tensor([0.0, 0.1, 0.2, 0.9, 1.0], dtype=torch.float64)
    start, speed = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 0.25]).double()
    path = start + speed * times[:, None]
    later = torch.tensor([2.0, 5.0], dtype=torch.float64)
    assert torch.allclose(linear_extrapolation(times, path, later), start + speed * later[:, None])


def test_one_position_stays():
    one = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    result = linear_extrapolation(torch.zeros(1).double(), one, torch.tensor([1.0, 2.0]).double())
    assert torch.equal(result, one.expand(2, 2))


def test_the_centre_of_what_is_visible():
    level = optical_poses(
        torch.tensor([[0.0, 0.0, 1.0]]).double(), torch.zeros(1).double(), torch.zeros(1).double()
    )
    size = torch.tensor([2.0, 0.3]).double()

    def centre(x: float, y: float) -> torch.Tensor:
        return visible_centre(torch.tensor([[x, y]]).double(), size, level, CAMERA)[0]

    # Straight ahead, eyes at half its height: the middle of the image.
    assert torch.allclose(centre(5, 0), torch.tensor([80.0, 48.0]).double())
    # To the left in the world is to the left in the image.
    assert torch.isclose(centre(5, 1)[0], torch.tensor(80 - CAMERA.focal / 5).double())
    assert centre(-5, 0).isnan().all()
    assert centre(1, 8).isnan().all()
