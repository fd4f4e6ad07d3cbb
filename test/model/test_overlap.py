# SPDX-License-Identifier: Apache-2.0
"""How well past cameras saw what future ones will see, on cameras whose views are known."""

import math
import time

import numpy as np
import torch

from hydra_model.overlap import MEAN_WEIGHT, cover, target_points, view_quality, views_of_runs
from hydra_model.procedural.trajectories import optical_poses

FOV_X, ASPECT = math.radians(70), 0.6


def cameras(*, yaw, at=(0.0, 0.0)) -> np.ndarray:
    """Level cameras 1.5 m high, turned left by ``yaw`` degrees."""
    yaw = torch.deg2rad(torch.as_tensor(yaw, dtype=torch.float64))
    position = torch.tensor([*at, 1.5], dtype=torch.float64).expand(len(yaw), 3)
    return optical_poses(position, yaw, torch.zeros_like(yaw)).numpy()


def quality(past: np.ndarray, target: np.ndarray) -> np.ndarray:
    return view_quality(past, target_points(target, FOV_X, ASPECT), FOV_X, ASPECT)


def test_the_same_camera_saw_everything_and_one_turned_away_nothing() -> None:
    target = cameras(yaw=[0.0])
    assert np.allclose(quality(target, target), 1, atol=1e-4)
    assert quality(cameras(yaw=[70.1, 180.0]), target).max() == 0


def test_a_camera_turned_by_half_its_view_saw_about_half() -> None:
    seen = quality(cameras(yaw=[35.0, -35.0]), cameras(yaw=[0.0]))
    assert np.allclose((seen > 0).mean(1), 0.5, atol=0.05)
    # One saw the left half, the other the right one.
    assert (seen > 0).any(0).all()


def test_a_view_from_the_other_side_tells_nothing() -> None:
    target = cameras(yaw=[0.0])
    facing = cameras(yaw=[180.0], at=(10.0, 0.0))
    assert quality(facing, target).max() == 0


def test_a_nearer_and_a_farther_view_are_worth_less_than_the_same_one() -> None:
    target = cameras(yaw=[0.0], at=(2.0, 0.0))
    same, behind, far = (
        quality(cameras(yaw=[0.0], at=(x, 0.0)), target).mean() for x in (2.0, 1.0, -6.0)
    )
    assert same > behind > far


def test_far_from_the_origin_nothing_changes() -> None:
    here = quality(cameras(yaw=[0.0, 20.0]), cameras(yaw=[10.0]))
    there = quality(cameras(yaw=[0.0, 20.0], at=(5e4, -3e4)), cameras(yaw=[10.0], at=(5e4, -3e4)))
    assert np.allclose(here, there, atol=1e-2)


def test_a_run_shows_what_its_best_frame_shows_and_more_if_all_do() -> None:
    values = np.random.default_rng(0).random((13, 3), dtype=np.float32)
    for length in (1, 2, 3, 5, 10, 12):
        first, views = views_of_runs(values, length)
        assert first[-1] + length == 13
        assert np.array_equal(np.diff(first), np.full(len(first) - 1, 2 - length % 2))
        runs = [values[i : i + length] for i in first]
        expected = [(1 - MEAN_WEIGHT) * r.max(0) + MEAN_WEIGHT * r.mean(0) for r in runs]
        assert np.allclose(views, expected, atol=1e-6)


def chosen(quality: np.ndarray, **options) -> list[int]:
    count = len(quality) - options["run"] + 1
    return cover(
        quality.astype(np.float32),
        **{
            "covered": np.zeros(quality.shape[1], np.float32),
            "allowed": np.ones(count, np.bool_),
            "least_gain": 0.01,
        }
        | options,
    )


def test_near_duplicates_do_not_crowd_out_what_only_one_frame_saw() -> None:
    # Frames 0 to 5 see the first half, well; frame 6 alone sees the second, badly.
    views = np.zeros((7, 10))
    views[:6, :5] = 1.0
    views[6, 5:] = 0.2
    assert chosen(views, run=1, count=4) == [5, 6]


def test_of_nearly_equal_views_the_newest_is_chosen() -> None:
    views = np.ones((6, 4))
    views[4:] = 0.95
    assert chosen(views, run=2, count=2) == [4]
    views[4:] = 0.5
    assert chosen(views, run=2, count=2) == [2]


def test_runs_stay_apart_and_where_they_are_allowed() -> None:
    views = np.eye(8)
    allowed = np.ones(7, np.bool_)
    allowed[3] = False
    starts = chosen(views, run=2, count=8, allowed=allowed)
    assert 3 not in starts
    assert all(abs(a - b) >= 2 for i, a in enumerate(starts) for b in starts[:i])


def test_ten_minutes_are_searched_in_a_moment() -> None:
    generator = np.random.default_rng(1)
    past = cameras(yaw=np.cumsum(generator.normal(0, 10, 2250)))
    target = past[-20:]
    took = []
    for _ in range(20):
        began = time.process_time()
        views = quality(past, target)
        chosen(views, run=10, count=10)
        took.append(time.process_time() - began)
    assert min(took) < 0.1  # 10 ms on a fast core; a step takes seconds
