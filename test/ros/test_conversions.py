# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from geometry_msgs.msg import Pose
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from transforms3d.euler import euler2mat

from hydra_model.cameras import camera_vectors, load_cameras, relative_poses
from hydra_ros import conversions
from reference import reference_folder


def random_poses(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose in poses:
        pose[:3, :3] = euler2mat(*random.uniform(-math.pi, math.pi, 3))
        pose[:3, 3] = random.uniform(-300, 300, 3)
    return poses


def through_ros(optical: np.ndarray) -> np.ndarray:
    """Send optical poses through PoseStamped-like messages of the body and back."""
    messages = [conversions.pose_to_message(body) for body in conversions.optical_to_body(optical)]
    bodies = np.stack([conversions.pose_from_message(message) for message in messages])
    return conversions.body_to_optical(bodies)


def test_a_body_that_looks_along_x_has_an_optical_frame_that_looks_along_x():
    right, down, forward = conversions.body_to_optical(np.eye(4))[:3, :3].T
    assert forward.tolist() == [1, 0, 0]
    assert right.tolist() == [0, -1, 0]
    assert down.tolist() == [0, 0, -1]


def test_a_body_motion_is_the_same_motion_in_optical_axes():
    start, motion = random_poses(2)
    body = conversions.optical_to_body(start)
    moved = conversions.body_to_optical(body @ motion)
    np.testing.assert_allclose(start @ conversions.body_motion_to_optical(motion), moved, atol=1e-9)


def test_poses_survive_the_way_through_messages():
    poses = random_poses(100)
    np.testing.assert_allclose(through_ros(poses), poses, atol=1e-9)


def test_the_models_view_of_poses_survives_the_way_through_messages_from_any_start():
    poses = random_poses(20)
    sent = through_ros(poses)
    expected = relative_poses(poses, poses[0])
    np.testing.assert_allclose(relative_poses(sent, sent[0]), expected, atol=1e-6)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_released_cameras_survive_the_way_to_the_models_vectors_and_back(number):
    track = load_cameras(reference_folder("examples", f"cam{number}.json"))
    commanded = through_ros(track.target)  # what ROS can say: exactly orthonormal
    vectors = camera_vectors(commanded, commanded[0])
    relative = np.tile(np.eye(4), (len(vectors), 1, 1))
    relative[:, :3] = vectors.reshape(-1, 3, 4)
    np.testing.assert_allclose(through_ros(commanded[0] @ relative), commanded, atol=1e-6)
    # The model reads what the file says; its rotations are rounded to 2e-7, which counts
    # with the distance.
    from_file = camera_vectors(track.target, track.target[0])
    np.testing.assert_allclose(vectors, from_file, rtol=1e-6, atol=1e-6)


def pose(**orientation: float) -> Pose:
    message = Pose()
    for name, value in orientation.items():
        setattr(message.orientation, name, value)
    return message


def test_a_quaternion_rounded_by_hand_is_normalised():
    matrix = conversions.pose_from_message(pose(w=0.7, z=0.7))
    np.testing.assert_allclose(matrix[:3, 0], [0, 1, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (pose(w=0.0), "zero quaternion"),
        (pose(w=2.0), "length 2"),
        (pose(w=float("nan")), "orientation .* not finite"),
    ],
)
def test_a_pose_without_a_rotation_is_refused(message, words):
    with pytest.raises(ValueError, match=words):
        conversions.pose_from_message(message)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_position_that_is_not_finite_is_refused(value):
    message = Pose()
    message.position.y = value
    with pytest.raises(ValueError, match=r"position .* not finite"):
        conversions.pose_from_message(message)


def test_a_given_position_beyond_all_maps_is_refused():
    message = Pose()
    message.position.y = -1e8
    assert conversions.given_pose_from_message(message)[1, 3] == -1e8
    message.position.y = -1e300
    with pytest.raises(ValueError, match=r"-1e\+300.* accepted: up to 100000000 m"):
        conversions.given_pose_from_message(message)


def test_images_survive_the_way_through_messages():
    frame = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    header = Header(frame_id="camera_optical_frame")
    message = conversions.image_message(frame, header)
    assert (message.encoding, message.step) == ("rgb8", 30)
    np.testing.assert_array_equal(conversions.image_from_message(message), frame)


def test_a_compressed_image_has_the_colours_of_the_frame():
    import cv2

    frame = np.full((16, 16, 3), (250, 30, 60), np.uint8)
    message = conversions.compressed_image_message(frame, Header(), 95)
    decoded = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - frame).max() < 8


def test_camera_info_puts_the_edge_of_the_view_at_half_the_field_of_view():
    info = conversions.camera_info_message(96, 160, math.radians(70), Header())
    focal, centre = info.k[0], info.k[2]
    right_edge = 159.5  # pixel centres are whole numbers
    assert math.degrees(math.atan((right_edge - centre) / focal)) == pytest.approx(35)
    assert info.k[5] == 47.5
    assert info.p[:3] == pytest.approx(info.k[:3])


def test_the_transforms_lead_from_the_world_to_the_optical_frame():
    optical = random_poses(1)[0]
    body = conversions.optical_to_body(optical)
    stamp = conversions.time_message(7)
    messages = conversions.camera_transforms(body, stamp, "map", "camera", "lens")
    assert [(m.header.frame_id, m.child_frame_id) for m in messages] == [
        ("map", "camera"),
        ("camera", "lens"),
    ]
    assert all(m.header.stamp == stamp for m in messages)
    chain = np.eye(4)
    for message in messages:
        pose = Pose(orientation=message.transform.rotation)
        for axis in "xyz":
            setattr(pose.position, axis, getattr(message.transform.translation, axis))
        chain = chain @ conversions.pose_from_message(pose)
    np.testing.assert_allclose(chain, optical, atol=1e-9)


def test_times_survive_the_way_through_messages():
    assert conversions.time_to_nanoseconds(conversions.time_message(12_000_000_345)) == (
        12_000_000_345
    )


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_images_of_every_accepted_encoding_become_rgb(encoding):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    if encoding == "mono8":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    channels = {"rgb": [0, 1, 2], "bgr": [2, 1, 0], "mon": [0]}[encoding[:3]]
    pixels = rgb[..., channels]
    if encoding[3] == "a":
        pixels = np.concatenate([pixels, np.full((4, 6, 1), 7, np.uint8)], axis=2)
    rows = np.pad(pixels.reshape(4, -1), ((0, 0), (0, 5)))  # rows may be longer than the picture
    message = Image(height=4, width=6, encoding=encoding, step=rows.shape[1])
    message.data = conversions.byte_array(rows.tobytes())
    np.testing.assert_array_equal(conversions.image_from_message(message), rgb)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoding": "32FC1"}, "'32FC1'; accepted: rgb8, bgr8, rgba8, bgra8, mono8"),
        ({"height": 5}, "cut short"),
        ({"step": 17}, "cut short"),
        ({"width": 0}, "cut short"),
    ],
)
def test_images_that_cannot_be_read_are_refused(changes, words):
    message = conversions.image_message(np.zeros((4, 6, 3), np.uint8), Header())
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(ValueError, match=words):
        conversions.image_from_message(message)


def test_compressed_images_become_rgb():
    frame = np.full((48, 80, 3), (200, 120, 40), np.uint8)
    message = conversions.compressed_image_message(frame, Header(), 95)
    assert np.abs(conversions.compressed_image_from_message(message).astype(int) - frame).max() < 6
    message.data = conversions.byte_array(b"not an image")
    with pytest.raises(ValueError, match="cannot be decoded"):
        conversions.compressed_image_from_message(message)
