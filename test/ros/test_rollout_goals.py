# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from system.simulator import path_message

from hydra_ros.action import Rollout
from hydra_ros.commands import CameraFrames
from hydra_ros.conversions import BODY_FROM_OPTICAL
from hydra_ros.rollout_goals import GoalError, GoalLimits, read_goal

CAMERA = CameraFrames(world="map", body="camera_link", optical="camera_optical_frame")
LIMITS = GoalLimits(candidates=16, path_frames=100, result_bytes=1_000_000)
GOAL = Rollout.Goal


def body(count: int, step: float = 0.1) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = step * (1 + np.arange(count))
    return poses


def read(goal: Rollout.Goal, limits: GoalLimits = LIMITS):
    start = BODY_FROM_OPTICAL.copy()
    start[0, 3] = 5.0
    return read_goal(goal, camera=CAMERA, start=start, fps=10.0, size=(96, 160), limits=limits)


def test_a_plain_goal_is_every_frame_once_as_jpeg():
    goal = read(GOAL(paths=[path_message(body(9)), path_message(body(5))]))
    assert [len(path) for path in goal.paths] == [9, 5]
    assert (goal.samples, goal.every, goal.encoding, goal.seed) == (1, 1, "jpeg", None)
    np.testing.assert_allclose(goal.paths[0][:, 0, 3], 0.1 * np.arange(1, 10))
    np.testing.assert_allclose(goal.paths[0][0, :3, 2], [1, 0, 0])  # looks along x


def test_a_relative_path_begins_where_the_state_is():
    goal = read(GOAL(paths=[path_message(body(5), frame="camera_link")]))
    np.testing.assert_allclose(goal.paths[0][:, 0, 3], 5.0 + 0.1 * np.arange(1, 6))


def test_a_timed_path_is_resampled_to_the_frame_rate():
    goal = read(GOAL(paths=[path_message(body(3), times=[1.0, 1.2, 1.4])]))
    np.testing.assert_allclose(goal.paths[0][:, 0, 3], [0.1, 0.15, 0.2, 0.25, 0.3])


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({}, 18),
        ({"frames": GOAL.FRAMES_LAST}, 2),
        ({"frames": GOAL.FRAMES_EVERY_NTH, "every_nth": 4}, 6),
        ({"samples": 3, "frames": GOAL.FRAMES_LAST}, 6),
    ],
)
def test_how_many_frames_come_back_is_known_before(options, frames):
    goal = read(GOAL(paths=[path_message(body(9))] * 2, **options))
    assert goal.returned_frames == frames


NOT_A_NUMBER = path_message(body(3))
NOT_A_NUMBER.poses[1].pose.position.x = float("nan")


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (GOAL(), "no candidate paths"),
        (GOAL(paths=[path_message(body(2)), path_message([])]), "path 1: the path has no poses"),
        (GOAL(paths=[path_message(body(1))]), "path 0 has one pose"),
        (GOAL(paths=[NOT_A_NUMBER]), "path 0: pose 1: position .* is not finite"),
        (GOAL(paths=[path_message(body(2), frame="moon")]), "path 0: frame_id 'moon' is unknown"),
        (GOAL(paths=[path_message(body(2), times=[2.0, 1.0])]), "path 0: the stamps run backw"),
        (GOAL(paths=[path_message(body(2), times=[1.0, 9e8])]), "path 0 takes more than 100 fr"),
        (GOAL(paths=[path_message(body(2))] * 17), "17 candidates; at most 16"),
        (GOAL(paths=[path_message(body(2))], samples=2**31), "at most 16"),
        (GOAL(paths=[path_message(body(2))], encoding="gif"), "accepted: rgb8, jpeg, png"),
        (GOAL(paths=[path_message(body(2))], frames=7), "frames is 7"),
        (GOAL(paths=[path_message(body(2))], frames=GOAL.FRAMES_EVERY_NTH), "every_nth is 0"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_reason(goal, message):
    with pytest.raises(GoalError, match=message):
        read(goal)


def test_a_result_that_is_too_large_is_refused_with_what_would_fit():
    with pytest.raises(GoalError) as error:
        read(GOAL(paths=[path_message(body(17))] * 8, encoding="rgb8"))
    text = str(error.value)
    assert "136 frames as rgb8 take about 6.4 MB; a result may take 1.0 MB" in text
    assert "every 9th frame" in text and "the last frame alone" in text and "1 candidate" in text
    fitting = [
        GOAL(paths=[path_message(body(17))] * 8, encoding="rgb8", frames=1, every_nth=9),
        GOAL(paths=[path_message(body(17))] * 8, encoding="rgb8", frames=GOAL.FRAMES_LAST),
        GOAL(paths=[path_message(body(17))], encoding="rgb8"),
    ]
    assert [read(goal).returned_frames for goal in fitting] == [16, 8, 17]
