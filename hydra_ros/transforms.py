# SPDX-License-Identifier: Apache-2.0
"""Camera poses from /tf, where ``tf2_ros`` is installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from geometry_msgs.msg import Pose
from rclpy.node import Node
from rclpy.time import Time

from hydra_ros.conversions import given_pose_from_message


def transform_lookup(node: Node, world_frame: str) -> Callable[[str, int], np.ndarray]:
    """Listen to /tf; return what looks up the pose [4, 4] of a frame in the world at a stamp.

    The stamp is in nanoseconds. The function raises ``LookupError`` with the reason where the
    transform is not there, as it always does without ``tf2_ros``.
    """
    try:
        import tf2_ros
    except ImportError:
        node.get_logger().error(
            "observation_pose is 'tf', but tf2_ros is not installed: observations are refused; "
            "set observation_pose to 'topic'"
        )
        return _not_installed
    buffer = tf2_ros.Buffer()
    # Kept alive by the function that is returned.
    listener = tf2_ros.TransformListener(buffer, node)

    def lookup(frame: str, stamp: int, _listener: object = listener) -> np.ndarray:
        try:
            found = buffer.lookup_transform(world_frame, frame, Time(nanoseconds=stamp))
        except tf2_ros.TransformException as error:
            raise LookupError(str(error)) from error
        pose = Pose(orientation=found.transform.rotation)
        translation = found.transform.translation
        pose.position.x, pose.position.y = translation.x, translation.y
        pose.position.z = translation.z
        return given_pose_from_message(pose)

    return lookup


def _not_installed(frame: str, stamp: int) -> np.ndarray:
    raise LookupError("tf2_ros is not installed")
