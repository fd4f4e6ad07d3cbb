# SPDX-License-Identifier: Apache-2.0
"""Which frames are a step's own, where frames that were asked for before still come."""

import numpy as np
import pytest
from system.drives import turning

from hydra_ros.frame_collector import ReceivedFrame
from hydra_ros.step_frames import SAME_POSE, StepFrames

START = turning(np.eye(4), 1, 30.0)[0]  # where the camera will be
MOTION = turning(np.eye(4), 3, 5.0)


def seen(poses: np.ndarray) -> list[ReceivedFrame]:
    picture = np.zeros((2, 2, 3), np.uint8)
    return [ReceivedFrame(stamp, picture, pose) for stamp, pose in enumerate(poses)]


@pytest.mark.parametrize("relative", [True, False])
def test_frames_from_before_are_left_out(relative):
    own = START @ MOTION
    before = turning(np.eye(4), 6, 5.0)  # up to the start, past poses near the step's
    frames = seen(np.concatenate([before, own + SAME_POSE / 2]))
    step = StepFrames(poses=MOTION if relative else own, relative=relative, start=START)
    assert step.among(frames) == frames[6:]
    assert step.among(frames[:6]) == []
    assert np.allclose(step.end([]), own[-1])


def test_where_nothing_is_still_to_come_every_frame_is_the_steps():
    frames = seen(turning(np.eye(4), 2, 50.0))
    assert StepFrames(poses=MOTION, relative=True, start=None).among(frames) == frames


def test_the_end_of_a_relative_step_is_known_from_its_start_or_from_any_of_its_frames():
    step = StepFrames(poses=MOTION, relative=True, start=None)
    assert step.end([]) is None
    assert np.allclose(step.end(seen(START @ MOTION[:1])), START @ MOTION[-1])


@pytest.mark.parametrize("poses", [None, np.zeros((0, 4, 4))])
def test_of_a_step_without_known_poses_nothing_is_left_out_and_no_end_known(poses):
    step = StepFrames(poses=poses, relative=False, start=START)
    frames = seen(turning(np.eye(4), 2, 5.0))
    assert step.among(frames) == frames
    assert step.end(frames) is None
