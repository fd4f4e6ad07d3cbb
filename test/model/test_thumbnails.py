# SPDX-License-Identifier: Apache-2.0
"""Small pictures are means over areas."""

import numpy as np

from hydra_model.thumbnails import make_thumbnails


def test_frames_are_scaled_down_by_the_mean_over_areas() -> None:
    frames = np.zeros((2, 96, 160, 3), np.uint8)
    frames[1, :, 80:] = (200, 100, 50)
    small = make_thumbnails(frames, 40)
    assert small.shape == (2, 24, 40, 3) and small.dtype == np.uint8
    assert not small[0].any() and not small[1, :, :20].any()
    assert (small[1, :, 20:] == (200, 100, 50)).all()


def test_frames_that_are_small_already_stay_as_they_are() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    small = make_thumbnails(frames)
    assert np.array_equal(small, frames) and small is not frames
