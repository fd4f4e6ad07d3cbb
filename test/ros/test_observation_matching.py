# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from hydra_ros.observation_matching import (
    ObservationError,
    Picture,
    PictureQueue,
    StampedPoses,
    TransformPoses,
)


def at(x: float) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = x
    return pose


def picture(seconds: float, arrived: float = 0.0) -> Picture:
    return Picture(round(seconds * 1e9), "camera", None, arrived)


def queue(*poses: float, tolerance: float = 0.01) -> tuple[PictureQueue, StampedPoses]:
    source = StampedPoses(tolerance)
    for seconds in poses:
        source.add(round(seconds * 1e9), at(seconds))
    return PictureQueue(source, wait=1.0), source


def test_the_pose_of_equal_stamp_is_taken_whichever_comes_first():
    pictures, poses = queue()
    pictures.add(picture(1.0))
    assert pictures.next(0.0) is None
    poses.add(10**9, at(5))
    assert pictures.next(0.0)[1][0, 3] == 5
    poses.add(2 * 10**9, at(6))
    pictures.add(picture(2.0))
    assert pictures.next(0.0)[1][0, 3] == 6


def test_the_nearest_pose_within_the_tolerance_is_taken_when_none_can_be_nearer():
    pictures, poses = queue(0.995)
    pictures.add(picture(1.0))
    assert pictures.next(0.0) is None  # one of equal stamp may still come
    poses.add(round(1.003 * 1e9), at(1.003))
    assert pictures.next(0.0)[1][0, 3] == 1.003
    pictures.add(picture(1.01, arrived=5.0))
    assert pictures.next(5.0) is None
    assert pictures.next(5.2)[1][0, 3] == 1.003


def test_a_picture_without_a_pose_is_refused_after_a_while():
    pictures, _ = queue()
    pictures.add(picture(1.0))
    assert pictures.next(0.9) is None
    with pytest.raises(ObservationError, match=r"image of 1\.000 s has no pose: no pose came"):
        pictures.next(1.0)
    assert len(pictures) == 0


def test_a_picture_between_poses_that_are_too_far_away_is_refused_soon():
    pictures, _ = queue(0.9, 1.2)
    pictures.add(picture(1.0))
    assert pictures.next(0.05) is None
    with pytest.raises(ObservationError, match=r"nearest pose .* is 0\.100 s away"):
        pictures.next(0.15)


def test_pictures_keep_their_order():
    pictures, _ = queue(2.0, 1.0)
    for seconds in (1.0, 2.0):
        pictures.add(picture(seconds))
    assert [pictures.next(0.0)[0].stamp for _ in range(2)] == [10**9, 2 * 10**9]


def test_a_queue_that_is_full_refuses_more():
    pictures = PictureQueue(StampedPoses(0.01), wait=1.0, longest=2)
    for _ in range(2):
        pictures.add(picture(1.0))
    with pytest.raises(ObservationError, match="2 images wait"):
        pictures.add(picture(1.0))


def test_old_poses_are_forgotten():
    _, poses = queue(*np.arange(2000) * 0.01)
    assert poses.find(picture(0.0), 10.0) is None
    assert poses.find(picture(19.99), 10.0) is not None


def test_transforms_are_looked_up_by_frame_and_stamp():
    known = {("camera", 10**9): at(3)}

    def lookup(frame: str, stamp: int) -> np.ndarray:
        if (frame, stamp) not in known:
            raise LookupError("extrapolation into the future")
        return known[frame, stamp]

    pictures = PictureQueue(TransformPoses(lookup), wait=1.0)
    pictures.add(picture(1.0))
    pictures.add(picture(2.0))
    assert pictures.next(0.0)[1][0, 3] == 3
    assert pictures.next(0.0) is None
    with pytest.raises(ObservationError, match="no transform of 'camera': extrapolation"):
        pictures.next(1.0)
