# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from hydra_ros.observation_clips import ClipCollector, Observation

PERIOD = 1 / 15


def collector(longest: int = 17) -> ClipCollector:
    return ClipCollector(PERIOD, longest=longest, patience=0.5)


def give(clips: ClipCollector, *seconds: float) -> None:
    for value in seconds:
        pose = np.eye(4)
        pose[0, 3] = value
        picture = np.full((2, 3, 3), round(value) % 256, np.uint8)
        clips.add(Observation(picture, pose, round(value * 1e9)))


def lengths(clips: ClipCollector) -> list[int]:
    found = []
    while clip := clips.take():
        found.append(len(clip.frames))
    return found


def test_observations_at_the_frame_rate_are_one_clip():
    clips = collector()
    give(clips, *(10 + PERIOD * np.arange(17)))
    assert clips.complete
    clip = clips.take()
    assert clip.frames.shape == (17, 2, 3, 3) and clip.poses.shape == (17, 4, 4)
    np.testing.assert_allclose(clip.gaps, PERIOD, atol=1e-6)
    assert clip.stamps[0] == 10 * 10**9
    assert clips.take() is None


def test_a_clip_waits_for_more_until_none_came_for_a_while():
    clips = collector()
    give(clips, *(PERIOD * np.arange(1, 6)))
    assert not clips.complete
    clips.idle(0.6)
    assert clips.complete
    assert lengths(clips) == [5]


def test_what_does_not_follow_at_the_frame_rate_is_taken_singly():
    clips = collector()
    give(clips, 1.0, 2.0, 3.0)
    assert clips.complete
    assert lengths(clips) == [1, 1, 1]


def test_any_number_is_taken_whole_in_clips_of_one_and_four_k_frames():
    for count in range(1, 17):
        clips = collector()
        give(clips, *(1 + PERIOD * np.arange(count)))
        found = lengths(clips)
        assert sum(found) == count
        assert all(length % 4 == 1 for length in found)


def test_single_frames_need_no_waiting():
    clips = collector(longest=1)
    give(clips, 1.0)
    assert clips.complete


def test_time_goes_on_by_the_stamps_between_observations():
    clips = collector()
    give(clips, 10.0, 12.5)
    assert clips.take().gaps == pytest.approx([PERIOD])  # whenever it was taken: the next frame
    assert clips.take().gaps == pytest.approx([2.5])
    give(clips, 13.0)
    assert clips.take().gaps == pytest.approx([0.5])


def test_after_imagined_frames_an_observation_is_the_next_frame():
    clips = collector()
    give(clips, 10.0)
    clips.take()
    clips.imagined()
    give(clips, 30.0)
    assert clips.take().gaps == pytest.approx([PERIOD])


def test_another_world_forgets_what_waits():
    clips = collector()
    give(clips, 10.0)
    clips.clear()
    assert len(clips) == 0 and clips.take() is None
