# SPDX-License-Identifier: Apache-2.0
"""Episodes hold what the contract says, and subjects come back in them."""

import math

import numpy as np
import pytest
import torch

from hydra_model.procedural import (
    episode,
    reentry_events,
    render_worlds,
    sample_training_batch,
    sample_worlds,
)
from hydra_model.procedural.episodes import find_reentries


@pytest.fixture(scope="module")
def shown():
    return episode(11, context_frames=9, target_frames=5, supersample=1)


def test_an_episode_has_its_shapes_and_times(shown):
    assert shown.context_frames.shape == (9, 96, 160, 3)
    assert shown.target_frames.shape == (5, 96, 160, 3)
    assert shown.context_frames.dtype == shown.target_masks.dtype == np.uint8
    assert shown.context_masks.shape == (9, 96, 160)
    assert shown.target_poses.shape == (5, 4, 4) and shown.target_poses.dtype == np.float64
    assert shown.context_times[-1] == 0
    assert shown.target_times[0] == pytest.approx(1 / 15)


def test_an_episode_can_be_shown_again_from_its_own_poses(shown):
    frames, masks = shown.render(shown.target_poses, shown.target_times)
    np.testing.assert_array_equal(frames, shown.target_frames)
    np.testing.assert_array_equal(masks, shown.target_masks)


def test_the_same_seed_gives_the_same_episode_and_another_gives_another(shown):
    again = episode(11, context_frames=9, target_frames=0, supersample=1)
    np.testing.assert_array_equal(again.context_frames, shown.context_frames)
    other = episode(12, context_frames=9, target_frames=0, supersample=1)
    assert np.abs(other.context_frames.astype(int) - shown.context_frames).mean() > 10


def test_the_world_does_not_depend_on_the_cameras_family(shown):
    other = episode(11, family="mild", context_frames=1, target_frames=0, supersample=1)
    frames, _ = other.render(shown.context_poses, shown.context_times)
    np.testing.assert_array_equal(frames, shown.context_frames)


def test_positions_belong_to_the_subjects_in_the_picture(shown):
    positions = shown.subject_positions(shown.context_times)
    assert positions.shape == (9, len(shown.motion_kinds), 2)
    assert shown.context_masks.max() <= len(shown.motion_kinds)


def test_a_training_batch_is_what_the_worlds_show():
    times = torch.tensor([-60.0, -12.0, 0.0, 3.0])
    frames, poses, ids = sample_training_batch([4, 5, 6], times, 24, 40)
    assert frames.shape == (3, 4, 24, 40, 3) and frames.dtype == torch.uint8
    assert poses.shape == (3, 4, 4, 4) and poses.dtype == torch.float32
    assert ids.shape == (3, 4, 24, 40)
    alone = render_worlds(sample_worlds(5), times.expand(1, -1), height=24, width=40)
    assert (alone[0][0].int() - frames[1].int()).abs().max() <= 1


def test_reentries_are_found_by_their_definition():
    visible = np.array([1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1], dtype=bool)
    # Context of 5 frames at 2 frames a second: gone for 2 s, for 0.5 s, for 1.5 s.
    assert find_reentries(visible, 5, 2.0) == [(1, 2.0), (7, 1.5)]
    assert find_reentries(visible[2:], 3, 2.0) == []  # never seen in the context
    assert find_reentries(visible[:6], 5, 2.0) == []  # does not come back


def test_subjects_come_back_in_most_episodes_that_look_away():
    times = torch.arange(-75, 78, 5, dtype=torch.float64) / 15
    worlds = sample_worlds(range(40), family="look_away")
    _, _, ids = render_worlds(worlds, times, height=24, width=40, supersample=1)
    context = int((times <= 0).sum())
    with_event = [
        any(
            find_reentries(((own == subject).sum((1, 2)) >= 1).numpy(), context, 3.0)
            for subject in (1, 2, 3)
        )
        for own in ids
    ]
    assert np.mean(with_event) >= 0.6


def test_events_are_read_from_the_masks():
    for seed in range(100, 106):
        shown = episode(seed, height=24, width=40, supersample=1)
        for event in reentry_events(shown):
            masks = np.concatenate([shown.context_masks, shown.target_masks])
            at = len(shown.context_masks) + event.frame
            assert (masks[at] == event.subject).any()
            gone = math.floor(event.unseen * shown.fps)
            assert gone >= 15
            assert (masks[at - gone : at] == event.subject).sum((1, 2)).max() <= 1


def test_wrong_inputs_are_named(shown):
    with pytest.raises(ValueError, match="context_frames is 0"):
        episode(1, context_frames=0)
    with pytest.raises(ValueError, match="poses are"):
        shown.render(np.eye(4), [0.0])
