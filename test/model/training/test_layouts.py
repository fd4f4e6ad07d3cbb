# SPDX-License-Identifier: Apache-2.0
"""Layouts of training samples: what is seen when."""

import pytest

from hydra_model.training.layouts import contiguous, draw_layout, most_frames, with_gaps


def test_a_full_context_ends_where_the_target_begins() -> None:
    layout = contiguous((20,), 20)
    assert layout.context_frames() == list(range(-77, 0))
    assert layout.target_frames() == list(range(77))
    assert layout.context_latent_frames() == list(range(-77, 0, 4))
    assert layout.target_latent_frames() == list(range(0, 77, 4))


def test_chunks_follow_each_other_as_a_simulator_commits_them() -> None:
    layout = contiguous((5, 5), 5)
    assert layout.context_frames() == list(range(-34, 0))
    assert layout.context_latent_frames() == [-34, -30, -26, -22, -18, -17, -13, -9, -5, -1]


def test_what_precedes_short_chunks_is_cut_from_a_longer_one() -> None:
    layout = contiguous((3, 2), 5, cut_first=True)
    assert [list(clip.frames) for clip in layout.clips] == [
        list(range(-18, -5)),  # four frames more than the run's first latent frame needs
        list(range(-5, 0)),
    ]
    assert layout.context_latent_frames() == [-14, -10, -6, -5, -1]
    assert layout.context_latents == 5


def test_gaps_lie_between_the_runs_of_the_past_and_the_recent_one() -> None:
    layout = with_gaps(((1, 10), (2, 30)), 2, 5)
    assert [(clip.start, clip.latents) for clip in layout.clips] == [(-51, 1), (-40, 2), (-5, 2)]
    assert layout.context_latent_frames() == [-51, -40, -36, -5, -1]
    assert all(clip.cut for clip in layout.clips)


def test_a_camera_that_stands_still_goes_on_from_where_it_was() -> None:
    layout = with_gaps(((1, 10), (2, 30)), 2, 5, held=True)
    assert layout.context_frames() == with_gaps(((1, 10), (2, 30)), 2, 5).context_frames()
    assert [clip.held for clip in layout.clips] == [40, 30, 0]
    places = [layout.context_camera_frames()[-n:] for n in (9, 18, 23)]
    # Each run's path ends one frame before the next one's begins, cut-off latent frame aside.
    assert places[0] == list(range(-9, 0))
    assert places[1][:9] == list(range(-14, -5))
    assert places[2][:5] == list(range(-15, -10))


@pytest.mark.parametrize("chunk", [4, 20])
def test_layouts_depend_on_step_and_seed_alone_and_cover_every_kind(chunk) -> None:
    drawn = [draw_layout(step, 0, chunk) for step in range(400)]
    assert drawn == [draw_layout(step, 0, chunk) for step in range(400)]
    assert drawn != [draw_layout(step, 1, chunk) for step in range(400)]
    assert {layout.target_latents for layout in drawn} == {chunk // 4, chunk}
    assert {len(layout.clips) for layout in drawn} == {1, 2, 3, 4}
    assert all(layout.context_latents % 2 == 0 for layout in drawn)
    assert 70 < sum(layout.clips[0].held > 0 for layout in drawn) < 130
    longest = max(len(x.context_frames()) + len(x.target_frames()) for x in drawn)
    assert longest <= most_frames(chunk) <= longest + 4
    oldest = min(layout.clips[0].start for layout in drawn)
    assert -130 * 15 < oldest < -40 * 15


def test_few_lengths_are_encoded() -> None:
    drawn = [draw_layout(step, 0) for step in range(400)]
    assert len({len(clip.frames) for layout in drawn for clip in layout.clips}) == 5
