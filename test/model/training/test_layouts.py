# SPDX-License-Identifier: Apache-2.0
"""Layouts of training samples: what is seen when."""

from hydra_model.training.layouts import contiguous, draw_layout, with_gap


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


def test_a_gap_lies_between_the_old_and_the_recent_clip() -> None:
    layout = with_gap(2, 2, 30, 5)
    assert layout.context_frames() == [-40, -39, -38, -37, -36, -5, -4, -3, -2, -1]


def test_layouts_depend_on_step_and_seed_alone_and_cover_every_kind() -> None:
    drawn = [draw_layout(step, 0) for step in range(300)]
    assert drawn == [draw_layout(step, 0) for step in range(300)]
    assert drawn != [draw_layout(step, 1) for step in range(300)]
    assert {layout.target_latents for layout in drawn} == {5, 20}
    assert {len(layout.clips) for layout in drawn} == {1, 2, 4}
    assert all(layout.context_latents % 2 == 0 for layout in drawn)
    oldest = min(layout.clips[0][0] for layout in drawn)
    assert -72 * 15 < oldest < -40 * 15
