# SPDX-License-Identifier: Apache-2.0
"""The demonstration's world is chosen by its ground truth, the first that fits."""

import math

import numpy as np
import pytest

from hydra_model.procedural import episode
from hydra_ros.demo.scene import find_scene, leaves_and_returns, subjects_in_sight

FPS = 15.0


def seen(*spans: tuple[int, int], length: int = 154) -> np.ndarray:
    visible = np.zeros(length, bool)
    for start, end in spans:
        visible[start:end] = True
    return visible


def test_times_of_leaving_and_coming_back():
    visible = seen((0, 62), (107, 154))[None]
    gone, back = leaves_and_returns(visible, 77, FPS)
    assert gone == pytest.approx(1.0)  # last seen in frame 61, the context ends with frame 76
    assert back == pytest.approx(31 / FPS)  # frame 107 is the 31st after the context


@pytest.mark.parametrize(
    "visible",
    [
        [seen((0, 77), (107, 154))],  # still in sight when the context ends
        [seen((0, 62), (107, 154)), seen((70, 77))],  # another one is
        [seen((50, 60), (107, 154))],  # hardly seen before
        [seen((0, 62), (150, 154))],  # hardly seen again
        [seen((0, 62)), seen((107, 154))],  # one leaves, another one comes
    ],
)
def test_other_worlds_are_passed_over(visible):
    assert leaves_and_returns(np.array(visible), 77, FPS) is None


def test_a_subject_that_is_nearly_hidden_is_out_of_sight():
    masks = np.zeros((2, 96, 160), np.uint8)
    masks[:, 40:60, 40:50] = 1
    masks[1, 0, 0] = 2  # one pixel
    assert subjects_in_sight(masks).tolist() == [[True, True], [False, False]]
    assert subjects_in_sight(np.zeros((3, 96, 160), np.uint8)).shape == (0, 3)


def test_the_world_found_does_what_it_promises_at_full_size():
    scene = find_scene(
        0, 20, height=96, width=160, fps=FPS, fov_x=math.radians(70), context=77
    )
    assert scene.path.shape == (20, 4, 4)
    shown = episode(scene.seed, context_frames=1, target_frames=0)
    frames = [-round(scene.gone * FPS), 0, round(scene.back * FPS)]
    poses = shown.worlds.trajectories.poses(shown_times(frames))[0].numpy()
    _, masks = shown.render(poses, np.array(frames) / FPS)
    visible = subjects_in_sight(masks).any(axis=0)
    assert visible.tolist() == [True, False, True]


def shown_times(frames: list[int]):
    import torch

    return torch.tensor(frames, dtype=torch.float64) / FPS


def test_without_subjects_nothing_leaves():
    assert leaves_and_returns(np.zeros((0, 154), bool), 77, FPS) is None
