# SPDX-License-Identifier: Apache-2.0
"""The camera's topics, put together again: every image with the pose under the same stamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from hydra_ros.conversions import image_from_message, pose_from_message, time_to_nanoseconds

DEPTH = 100
MOST_UNMATCHED = 1000  # halves of frames whose other half was lost


@dataclass(frozen=True)
class ReceivedFrame:
    """A frame and the pose of its camera, which came under one stamp (nanoseconds).

    ``image`` is uint8 [H, W, 3], ``pose`` the camera-to-world [4, 4] in metres, as published:
    of the body, unless the simulator's poses are of the optical frame.
    """

    stamp: int
    image: np.ndarray
    pose: np.ndarray


class FrameCollector:
    """Subscribes to ``camera/image_raw`` and ``camera/pose`` of a node's namespace.

    Args:
        node: the node that subscribes.
        take: gets every frame, on the executor's thread.
        namespace: of the topics; "" is the node's own.
    """

    def __init__(
        self, node: Node, take: Callable[[ReceivedFrame], None], namespace: str = ""
    ) -> None:
        self._take = take
        self._images: dict[int, np.ndarray] = {}
        self._poses: dict[int, np.ndarray] = {}
        prefix = namespace.rstrip("/") + "/" if namespace else ""
        reliable = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self._subscriptions = [
            node.create_subscription(kind, f"{prefix}{topic}", receive, reliable)
            for kind, topic, receive in (
                (Image, "camera/image_raw", self._take_image),
                (PoseStamped, "camera/pose", self._take_pose),
            )
        ]
        self._node = node

    @property
    def connected(self) -> bool:
        """Whether both topics have a publisher."""
        topics = (subscription.topic_name for subscription in self._subscriptions)
        return all(self._node.count_publishers(topic) > 0 for topic in topics)

    def destroy(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def _take_image(self, message: Image) -> None:
        self._images[time_to_nanoseconds(message.header.stamp)] = image_from_message(message)
        self._match()

    def _take_pose(self, message: PoseStamped) -> None:
        self._poses[time_to_nanoseconds(message.header.stamp)] = pose_from_message(message.pose)
        self._match()

    def _match(self) -> None:
        for stamp in sorted(self._images.keys() & self._poses.keys()):
            self._take(ReceivedFrame(stamp, self._images.pop(stamp), self._poses.pop(stamp)))
        for halves in (self._images, self._poses):
            while len(halves) > MOST_UNMATCHED:
                del halves[min(halves)]
