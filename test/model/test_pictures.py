# SPDX-License-Identifier: Apache-2.0
"""Layout of captions, clips side by side and contact sheets."""

import numpy as np
import pytest

from hydra_model.pictures import captioned, contact_sheet, enlarged, evenly_spaced, side_by_side


def grey(count: int, *levels: int) -> np.ndarray:
    levels = levels or tuple(range(count))
    return np.stack([np.full((96, 160, 3), level, np.uint8) for level in levels])


def test_small_frames_grow_by_a_whole_factor_and_large_ones_stay():
    assert enlarged(grey(2), min_width=400).shape == (2, 288, 480, 3)
    assert enlarged(grey(2), min_width=160).shape == (2, 96, 160, 3)


def test_a_caption_leaves_the_frame_alone_and_marks_its_band():
    frames = grey(2, 50, 60)
    pictures = captioned(frames, ["0.0 s", "0.1 s, out of view"], marked=[False, True])
    assert np.array_equal(pictures[:, :96], frames)
    bands = pictures[:, 96:].reshape(2, -1, 3).astype(int)
    assert np.median(bands[1] - bands[0], axis=0)[0] > 100  # another colour
    assert bands[1].std() > 0  # and there is something written


def test_every_frame_needs_a_caption():
    with pytest.raises(ValueError, match="1 captions for 2 frames; one each"):
        captioned(grey(2), ["a"])


def test_a_long_caption_is_shrunk_into_its_frame():
    short, long = (captioned(grey(1), ["subject" * n])[0, 96:] for n in (1, 20))
    assert (long[:, -3:] == long[0, 0]).all()
    assert short.shape == long.shape


def test_clips_stand_side_by_side():
    both = side_by_side(grey(3), grey(3, 100, 101, 102), gap=4)
    assert both.shape == (3, 96, 324, 3)
    assert both[1, 0, 0, 0] == 1 and both[1, 0, -1, 0] == 101
    with pytest.raises(ValueError, match="lengths"):
        side_by_side(grey(3), grey(2))


def test_the_sheet_shows_each_rows_frames_in_order():
    sheet = contact_sheet([("a", grey(5, 10, 20, 30, 40, 50)), ("b", grey(2, 110, 120))], 3)
    assert sheet.dtype == np.uint8 and sheet.ndim == 3

    def levels_along(row: int) -> list[int]:
        values = [int(v) for v in sheet[row, :, 0] if v != 255]
        return list(dict.fromkeys(values))

    rows = [levels_along(row) for row in range(len(sheet))]
    assert [10, 30, 50] in rows
    assert [110, 120] in rows


def test_evenly_spaced_frames_hold_the_first_and_the_last():
    assert evenly_spaced(77, 6).tolist() == [0, 15, 30, 46, 61, 76]
    assert evenly_spaced(3, 6).tolist() == [0, 1, 2]


def test_an_empty_sheet_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], 3)
