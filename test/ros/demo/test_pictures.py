# SPDX-License-Identifier: Apache-2.0
"""The demonstration's video and contact sheet show what they were given."""

import numpy as np
import pytest

from hydra_model.pictures import MARK
from hydra_ros.demo.pictures import Comparison, demo_sheet, demo_video


@pytest.fixture
def shown() -> Comparison:
    def grey(count: int, level: int) -> np.ndarray:
        return np.full((count, 96, 160, 3), level, np.uint8)

    return Comparison(
        context=grey(9, 50),
        context_times=np.arange(-8, 1) / 15,
        context_seen=np.arange(9) < 4,
        truth=grey(12, 100),
        prediction=grey(12, 150),
        times=np.arange(1, 13) / 15,
        seen=np.arange(12) >= 6,
    )


def marked(picture: np.ndarray) -> bool:
    return bool((picture == MARK).all(axis=-1).any())


def test_the_context_comes_first_then_both_futures_side_by_side(shown):
    video = demo_video(shown)
    assert video.shape[0] == 9 + 12
    middle = video[:, video.shape[1] // 2]
    quarter, three_quarters = video.shape[2] // 4, 3 * video.shape[2] // 4
    assert middle[3, quarter, 0] == middle[3, three_quarters, 0] == 50
    assert (middle[15, quarter, 0], middle[15, three_quarters, 0]) == (100, 150)


def test_frames_with_the_subject_out_of_sight_are_marked(shown):
    video = demo_video(shown)
    expected = [*~shown.context_seen, *~shown.seen]
    assert [marked(frame) for frame in video] == expected


def test_the_sheet_has_a_row_for_each(shown):
    sheet = demo_sheet(shown)
    assert {50, 100, 150} <= set(np.unique(sheet[..., 0]))
    assert marked(sheet)
    assert sheet.shape[1] > sheet.shape[0] > 300
