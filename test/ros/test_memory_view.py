# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest
import torch
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.selection import Selection
from hydra_model.state import State
from hydra_ros import conversions
from hydra_ros.memory_view import memory_markers, memory_message, memory_view
from hydra_ros.msg import MemoryFrame
from hydra_ros.retrieval_picture import retrieval_picture


def state(frames: int) -> State:
    """A camera that moves 1 m a latent frame along its x axis; one frame a second."""
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, 0, 3] = np.arange(frames)
    segment = Segment(
        Latents(torch.zeros(1, frames, 2, 2)), poses, np.arange(frames, dtype=float), "observed",
        np.full((frames, 6, 10, 3), 200, np.uint8),
    )  # fmt: skip
    return State(
        memory=MemoryBank([segment]), pose=poses[-1], time=frames - 1.0, seed=0, chunks=7,
        prompt="", fov_x=np.pi / 2,
    )  # fmt: skip


def look(frames: int = 100, chosen=(3, 50, 99), sample: int = 10, thumbnails: bool = False):
    total = np.linspace(0, 1, frames).astype(np.float32)
    selection = Selection(
        policy="hybrid", indices=np.array(chosen), scores={"recent": total, "overlap": 0 * total},
        total=total,
    )  # fmt: skip
    return memory_view(
        state(frames), selection, period=0.1, aspect=2.0, sample=sample, thumbnails=thumbnails
    )


def message(view):
    return memory_message(view, Header(frame_id="map"), conversions.pose_to_message)


def test_selected_frames_come_first_and_the_others_are_a_bounded_sample_of_all_history():
    shown = message(look())
    assert [frame.index for frame in shown.frames[:3]] == [3, 50, 99]
    assert [frame.selected for frame in shown.frames] == [True] * 3 + [False] * 10
    others = [frame.index for frame in shown.frames[3:]]
    assert others[0] == 0 and others[-1] == 98 and len(set(others)) == 10
    assert max(np.diff(others)) < 13
    assert shown.memory_frames == 100 and shown.chunk == 7 and shown.policy == "hybrid"


def test_a_young_memory_is_shown_whole():
    shown = message(look(frames=5, chosen=(4,)))
    assert sorted(frame.index for frame in shown.frames) == [0, 1, 2, 3, 4]


def test_a_frame_says_where_it_was_how_old_it_is_and_why_it_was_chosen():
    frame = message(look()).frames[1]
    assert frame.pose.position.x == 50 and frame.time == 50
    assert frame.age == pytest.approx(99.1 - 50)
    assert frame.origin == MemoryFrame.OBSERVED
    assert list(frame.terms) == ["recent", "overlap"]
    assert frame.term_scores[0] == frame.score == pytest.approx(50 / 99)
    assert not frame.thumbnail


def test_thumbnails_are_jpegs():
    frame = message(look(thumbnails=True)).frames[0]
    picture = cv2.imdecode(np.frombuffer(frame.thumbnail, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (6, 10, 3)
    assert abs(int(picture.mean()) - 200) < 3


def test_frusta_have_the_cameras_field_of_view_and_stand_where_it_was():
    remembered, selected, camera = memory_markers(look(), Header(frame_id="map")).markers
    assert selected.scale.x > remembered.scale.x
    assert len(selected.points) == 3 * 20 and len(remembered.points) == 10 * 20
    assert len(selected.colors) == len(selected.points)
    points = np.array([[point.x, point.y, point.z] for point in camera.points]) - [99, 0, 0]
    far = points[np.abs(points[:, 2]) > 0]
    assert np.ptp(points[:, 2]) == pytest.approx(far[0, 2])
    # 90 degrees across: as wide to each side as deep; twice as wide as high.
    assert points[:, 0].max() == pytest.approx(far[0, 2])
    assert points[:, 1].max() == pytest.approx(far[0, 2] / 2)


def test_relevant_frusta_are_yellow_and_irrelevant_ones_blue():
    remembered = memory_markers(look(), Header()).markers[0]
    first, last = remembered.colors[0], remembered.colors[-1]
    assert first.b > first.g and last.r > 0.8 and last.b < 0.3


def test_the_markers_of_a_chunk_replace_those_of_the_one_before():
    first, second = (
        [(marker.ns, marker.id) for marker in memory_markers(look(sample=n), Header()).markers]
        for n in (10, 0)
    )
    assert first == second
    assert memory_markers(look(sample=0), Header()).markers[0].action == Marker.DELETE


def test_the_retrieval_is_a_picture_with_a_cell_for_every_pair_of_frames():
    shares = np.zeros((3, 20), np.float32)
    shares[1, 4] = 1.0
    picture = retrieval_picture(shares, np.linspace(5, 0, 20), np.arange(3) * 0.27)
    assert picture.dtype == np.uint8 and picture.shape[2] == 3
    assert picture.shape[1] > 20 * 20
    yellow = np.argwhere(np.abs(picture.astype(int) - [253, 231, 36]).max(axis=2) < 8)
    assert len(yellow) > 400  # one cell
    assert np.ptp(yellow[:, 0]) < 28 and np.ptp(yellow[:, 1]) < 28
