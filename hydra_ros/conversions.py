# SPDX-License-Identifier: Apache-2.0
"""ROS messages <-> numpy: poses, twists, times, images, camera info and transforms.

Poses are camera-to-world 4x4 float64 matrices in metres. Two frames of the same camera
occur (REP-103): the *body* frame (x forward, y left, z up), which ROS users command, and the
*optical* frame (z forward, x right, y down), which the simulator uses. Both have the same
origin, so they differ by one constant rotation.
"""

from __future__ import annotations

import array
import math

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, PoseStamped, TransformStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from transforms3d.quaternions import mat2quat, quat2mat

NANOSECONDS = 1_000_000_000

# Metres along an axis. Map coordinates (UTM, ECEF) stay far below; beyond, nothing is meant.
LARGEST_COORDINATE = 1e8

# A quaternion this far from unit length is taken for rounding (0.7 for sqrt(1/2)) and
# normalised; a longer or shorter one is a mistake.
QUATERNION_TOLERANCE = 0.02

# Channels of the image encodings that are read, and how OpenCV turns them into RGB.
ENCODINGS = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}

# Camera body <- optical frame: the columns are right, down and forward in body axes.
BODY_FROM_OPTICAL = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
OPTICAL_FROM_BODY = BODY_FROM_OPTICAL.T


def body_to_optical(poses: np.ndarray) -> np.ndarray:
    """Return the optical frames [..., 4, 4] of cameras whose body frames [..., 4, 4] are given."""
    return poses @ BODY_FROM_OPTICAL


def optical_to_body(poses: np.ndarray) -> np.ndarray:
    """Return the body frames [..., 4, 4] of cameras whose optical frames [..., 4, 4] are given."""
    return poses @ OPTICAL_FROM_BODY


def body_motion_to_optical(motion: np.ndarray) -> np.ndarray:
    """Re-express a motion [..., 4, 4] relative to the body frame in the optical frame's axes."""
    return OPTICAL_FROM_BODY @ motion @ BODY_FROM_OPTICAL


def pose_from_message(message: Pose) -> np.ndarray:
    """Return the 4x4 matrix of a pose message.

    Raises:
        ValueError: a number is not finite, or the quaternion is zero or not of unit length.
    """
    position = np.array([message.position.x, message.position.y, message.position.z])
    quaternion = message.orientation
    wxyz = np.array([quaternion.w, quaternion.x, quaternion.y, quaternion.z])
    if not np.isfinite(position).all():
        raise ValueError(f"position {position.tolist()} is not finite")
    if not np.isfinite(wxyz).all():
        raise ValueError(f"orientation (w, x, y, z) {wxyz.tolist()} is not finite")
    norm = math.sqrt(float(wxyz @ wxyz))
    if norm < 1e-9:
        raise ValueError("orientation is the zero quaternion; a unit quaternion is needed")
    if abs(norm - 1.0) > QUATERNION_TOLERANCE:
        raise ValueError(f"orientation has length {norm:.4g}; a unit quaternion is needed")
    pose = np.eye(4)
    pose[:3, :3] = quat2mat(wxyz / norm)
    pose[:3, 3] = position
    return pose


def given_pose_from_message(message: Pose) -> np.ndarray:
    """Return the 4x4 matrix of a pose that a user gave; a camera may be driven farther.

    Raises:
        ValueError: as ``pose_from_message``, or it is farther than ``LARGEST_COORDINATE``.
    """
    pose = pose_from_message(message)
    if np.abs(pose[:3, 3]).max() > LARGEST_COORDINATE:
        raise ValueError(
            f"position {pose[:3, 3].tolist()} is too far away; accepted: up to "
            f"{LARGEST_COORDINATE:.0f} m along each axis"
        )
    return pose


def pose_to_message(pose: np.ndarray) -> Pose:
    """Return the pose message of a 4x4 matrix; the frame (body, optical) is the caller's."""
    message = Pose()
    w, x, y, z = mat2quat(pose[:3, :3])
    message.position.x, message.position.y, message.position.z = map(float, pose[:3, 3])
    message.orientation.w, message.orientation.x = float(w), float(x)
    message.orientation.y, message.orientation.z = float(y), float(z)
    return message


def pose_stamped_message(pose: np.ndarray, header: Header) -> PoseStamped:
    """Return a 4x4 matrix as PoseStamped under the given header."""
    return PoseStamped(header=header, pose=pose_to_message(pose))


def transform_message(transform: np.ndarray, header: Header, child: str) -> TransformStamped:
    """Return the transform [4, 4] of frame ``child`` in ``header.frame_id``."""
    pose = pose_to_message(transform)
    message = TransformStamped(header=header, child_frame_id=child)
    message.transform.translation.x = pose.position.x
    message.transform.translation.y = pose.position.y
    message.transform.translation.z = pose.position.z
    message.transform.rotation = pose.orientation
    return message


def camera_transforms(
    body: np.ndarray, stamp: Time, world_frame: str, camera_frame: str, optical_frame: str
) -> list[TransformStamped]:
    """Return the transforms world -> camera body [4, 4] -> optical frame, under one stamp."""
    in_world = Header(stamp=stamp, frame_id=world_frame)
    in_camera = Header(stamp=stamp, frame_id=camera_frame)
    return [
        transform_message(body, in_world, camera_frame),
        transform_message(BODY_FROM_OPTICAL, in_camera, optical_frame),
    ]


def time_to_nanoseconds(stamp: Time) -> int:
    """Return a time message in nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def time_message(nanoseconds: int) -> Time:
    """Return a time message of so many nanoseconds."""
    seconds, rest = divmod(int(nanoseconds), NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def byte_array(data: bytes | memoryview) -> array.array:
    # The one way of filling a uint8[] field that rclpy takes over without looking at each byte.
    values = array.array("B")
    values.frombytes(data)
    return values


def image_message(frame: np.ndarray, header: Header) -> Image:
    """Return an rgb8 image message of a frame, uint8 [H, W, 3] RGB."""
    height, width, _ = frame.shape
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.data = byte_array(np.ascontiguousarray(frame).data.cast("B"))
    return message


def image_from_message(message: Image) -> np.ndarray:
    """Return the frame, uint8 [H, W, 3] RGB, of an image message.

    Raises:
        ValueError: another encoding than those of ``ENCODINGS``, or data cut short.
    """
    if message.encoding not in ENCODINGS:
        raise ValueError(
            f"image encoding is {message.encoding!r}; accepted: {', '.join(ENCODINGS)}"
        )
    channels, to_rgb = ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if not (height and width) or step < channels * width or len(message.data) < height * step:
        raise ValueError(
            f"image data is cut short: {len(message.data)} bytes and a step of {step} for "
            f"{width}x{height} {message.encoding}"
        )
    rows = np.frombuffer(message.data, np.uint8, height * step).reshape(height, step)
    pixels = rows[:, : channels * width].reshape(height, width, channels)
    return pixels.copy() if to_rgb is None else cv2.cvtColor(pixels, to_rgb)


def compressed_image_from_message(message: CompressedImage) -> np.ndarray:
    """Return the frame, uint8 [H, W, 3] RGB, of a compressed image message (JPEG, PNG).

    Raises:
        ValueError: it cannot be decoded.
    """
    data = np.frombuffer(message.data, np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    if picture is None:
        raise ValueError(f"compressed image ({message.format!r}) cannot be decoded")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def compressed_image_message(frame: np.ndarray, header: Header, quality: int) -> CompressedImage:
    """Return a JPEG message of a frame, uint8 [H, W, 3] RGB; ``quality`` is 1 to 100."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, jpeg = cv2.imencode(".jpg", np.ascontiguousarray(frame[..., ::-1]), options)
    # The format as image_transport writes it: encoding of the raw image, codec, codec's colours.
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    message.data = byte_array(jpeg.tobytes())
    return message


def camera_info_message(height: int, width: int, fov_x: float, header: Header) -> CameraInfo:
    """Return the CameraInfo of a pinhole camera with square pixels; ``fov_x`` in radians."""
    focal = (width / 2) / math.tan(fov_x / 2)
    # ROS counts pixel coordinates from the centre of the first pixel.
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    message = CameraInfo(header=header, height=height, width=width)
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = [focal, 0.0, centre_x, 0.0, focal, centre_y, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, centre_x, 0.0, 0.0, focal, centre_y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message
