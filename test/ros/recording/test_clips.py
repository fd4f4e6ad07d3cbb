# SPDX-License-Identifier: Apache-2.0
"""A section of a bag becomes a clip with the very pictures and poses of the bag."""

import numpy as np
import pytest
from ros.recording import robot_bags
from ros.recording.robot_bags import curve

from hydra_model.cameras.geometry import unreal_to_optical
from hydra_ros.conversions import body_to_optical
from hydra_ros.recording.bag import Bag, BagError
from hydra_ros.recording.clips import optical_to_unreal, read_section, write_clip
from hydra_ros.recording.pictures import frame_of
from hydra_ros.recording.tracks import read_track
from hydra_ros.starting_world import ContextFormat, starting_world

RANDOM = np.random.default_rng(1)
PICTURES = RANDOM.integers(0, 256, (60, 48, 80, 3)).astype(np.uint8)
FORM = ContextFormat(frames=17, height=48, width=80, fps=15.0, fov_x=1.2)


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """A camera at 30 Hz, that begins before the odometry and has a gap near its end."""
    images = [
        robot_bags.image(picture, i / 30 - 0.2)
        for i, picture in enumerate(PICTURES)
        if not 45 < i < 52
    ]
    messages = {"/camera": images, "/odom": robot_bags.drive(3.0)}
    folder = robot_bags.write_bag(tmp_path_factory.mktemp("bags") / "robot", messages)
    with Bag(folder) as opened:
        yield opened


def section(bag, at: float = 0.0, frames: int = 17):
    track = read_track(bag, "/odom")
    return read_section(bag, "/camera", track, at=at, frames=frames, fps=15.0)


def test_a_section_begins_where_there_are_poses_and_takes_every_second_image(bag):
    taken = section(bag)
    np.testing.assert_array_equal(taken.frames, PICTURES[6 : 6 + 34 : 2])
    exact = body_to_optical(np.stack([curve(i / 15) for i in range(17)]))
    np.testing.assert_allclose(taken.poses, exact, atol=1e-3)


def test_the_simulator_starts_from_the_very_pictures_and_poses(bag, tmp_path):
    taken = section(bag, at=0.1)
    write_clip(tmp_path, "robot", taken, 15.0)
    world = starting_world(
        "robot", FORM, seed=1, prompt="", family="look_away", clips_folder=str(tmp_path)
    )
    np.testing.assert_array_equal(world.frames, taken.frames)
    np.testing.assert_allclose(world.poses, taken.poses, atol=1e-9)


def test_writing_unreal_matrices_is_the_inverse_of_reading_them(bag):
    poses = section(bag).poses
    np.testing.assert_allclose(unreal_to_optical(optical_to_unreal(poses)), poses, atol=1e-12)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"frames": 77}, "images with poses from there"),
        ({"at": 60.0}, "images with poses from there"),
        ({"at": 0.9, "frames": 10}, "gap"),
    ],
)
def test_too_few_images_are_refused(bag, options, words):
    with pytest.raises(BagError, match=words):
        section(bag, **options)


@pytest.mark.parametrize(
    "encoding, channels", [("bgr8", 3), ("rgba8", 4), ("bgra8", 4), ("mono8", 1)]
)
def test_images_of_other_encodings_become_rgb(encoding, channels):
    colour = [200, 100, 50, 255]
    order = {"b": [2, 1, 0, 3], "r": [0, 1, 2, 3], "m": [0]}[encoding[0]][:channels]
    frame = np.tile(np.array(colour, np.uint8)[order], (4, 6, 1))
    expected = [200] * 3 if channels == 1 else colour[:3]
    np.testing.assert_array_equal(frame_of(robot_bags.image(frame, 0.0, encoding))[2, 3], expected)


def test_an_unknown_encoding_is_named():
    depth = robot_bags.image(np.zeros((4, 6, 2), np.uint8), 0.0, "16UC1")
    with pytest.raises(ValueError, match="16UC1"):
        frame_of(depth)
