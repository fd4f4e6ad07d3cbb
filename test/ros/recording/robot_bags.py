# SPDX-License-Identifier: Apache-2.0
"""Bags as robots have them, written by a library that hydra_ros does not write with."""

from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from transforms3d.quaternions import mat2quat

STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types
START = 1_700_000_000  # s


def header(seconds: float, frame: str = "odom"):
    nanoseconds = START * 10**9 + round(seconds * 1e9)
    stamp = TYPES["builtin_interfaces/msg/Time"](
        sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9
    )
    return TYPES["std_msgs/msg/Header"](stamp=stamp, frame_id=frame)


def pose(matrix: np.ndarray):
    w, x, y, z = (float(value) for value in mat2quat(matrix[:3, :3]))
    point = TYPES["geometry_msgs/msg/Point"](*(float(value) for value in matrix[:3, 3]))
    return TYPES["geometry_msgs/msg/Pose"](
        position=point, orientation=TYPES["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w)
    )


def pose_stamped(matrix: np.ndarray, seconds: float, frame: str = "odom"):
    kind = TYPES["geometry_msgs/msg/PoseStamped"]
    return kind(header=header(seconds, frame), pose=pose(matrix))


def transform(matrix: np.ndarray, seconds: float, parent: str, child: str):
    """A TFMessage of one transform: where ``child`` lies in ``parent``."""
    place = pose(matrix)
    vector = TYPES["geometry_msgs/msg/Vector3"](
        x=place.position.x, y=place.position.y, z=place.position.z
    )
    stamped = TYPES["geometry_msgs/msg/TransformStamped"](
        header=header(seconds, parent), child_frame_id=child,
        transform=TYPES["geometry_msgs/msg/Transform"](
            translation=vector, rotation=place.orientation
        ),
    )  # fmt: skip
    return TYPES["tf2_msgs/msg/TFMessage"](transforms=[stamped])


def odometry(matrix: np.ndarray, seconds: float):
    zero = TYPES["geometry_msgs/msg/Vector3"](x=0.0, y=0.0, z=0.0)
    twist = TYPES["geometry_msgs/msg/Twist"](linear=zero, angular=zero)
    return TYPES["nav_msgs/msg/Odometry"](
        header=header(seconds),
        child_frame_id="base_link",
        pose=TYPES["geometry_msgs/msg/PoseWithCovariance"](
            pose=pose(matrix), covariance=np.zeros(36)
        ),
        twist=TYPES["geometry_msgs/msg/TwistWithCovariance"](twist=twist, covariance=np.zeros(36)),
    )


def path(matrices: list[np.ndarray], times: list[float], frame: str = "odom", at: float = 0.0):
    poses = [pose_stamped(*entry, "") for entry in zip(matrices, times, strict=True)]
    return TYPES["nav_msgs/msg/Path"](header=header(at, frame), poses=poses)


def image(frame: np.ndarray, seconds: float, encoding: str = "rgb8"):
    return TYPES["sensor_msgs/msg/Image"](
        header=header(seconds), height=frame.shape[0], width=frame.shape[1], encoding=encoding,
        is_bigendian=0, step=frame.shape[1] * frame.shape[2], data=frame.reshape(-1),
    )  # fmt: skip


def write_bag(folder: Path, messages: dict[str, list], *, mcap: bool = False) -> Path:
    """Write messages by topic; each was recorded at its header's stamp."""
    plugin = StoragePlugin.MCAP if mcap else StoragePlugin.SQLITE3
    with Writer(folder, version=8, storage_plugin=plugin) as writer:
        for topic, entries in messages.items():
            kind = entries[0].__msgtype__
            connection = writer.add_connection(topic, kind, typestore=STORE)
            for entry in entries:
                stamp = (getattr(entry, "header", None) or entry.transforms[0].header).stamp
                data = STORE.serialize_cdr(entry, kind)
                writer.write(connection, stamp.sec * 10**9 + stamp.nanosec, data)
    return folder


def curve(seconds: float) -> np.ndarray:
    """A robot that drives forward and turns left: body pose [4, 4] at a time."""
    angle = 0.2 * seconds
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = [5.0 + 0.3 * seconds, 1.0 + 0.05 * seconds, 0.5]
    return matrix


def mounted() -> np.ndarray:
    """A camera on that robot: pose [4, 4] of its body in base_link, ahead, up, looking left."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[0.0, -1.0], [1.0, 0.0]]
    matrix[:3, 3] = [0.2, 0.0, 0.4]
    return matrix


def transforms(seconds: float, rate: float = 20.0) -> dict[str, list]:
    """Where that robot goes, as transforms: map > odom (fixed) > base_link (moves)."""
    moving = [
        transform(curve(i / rate), i / rate, "odom", "base_link")
        for i in range(round(seconds * rate) + 1)
    ]
    return {"/tf": moving, "/tf_static": [transform(raised(), 0.0, "map", "odom")]}


def raised() -> np.ndarray:
    """Pose [4, 4] of odom in map."""
    matrix = np.eye(4)
    matrix[:3, 3] = [0.0, 0.0, 3.0]
    return matrix


def drive(seconds: float, rate: float = 20.0) -> list:
    """Odometry of that robot."""
    return [odometry(curve(i / rate), i / rate) for i in range(round(seconds * rate) + 1)]
