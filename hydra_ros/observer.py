# SPDX-License-Identifier: Apache-2.0
"""A camera's side of the observation topics: pictures and poses out, until they are remembered."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from hydra_ros.conversions import (
    NANOSECONDS,
    image_message,
    pose_from_message,
    time_message,
    time_to_nanoseconds,
)
from hydra_ros.discovery import Discovery

_DEPTH = 100
_PAUSE = 0.002  # s after each picture: a simulator whose queue is full drops pictures


class Observer:
    """Publishes ``observation/image`` and ``observation/pose``, and hears what was accepted.

    Args:
        node: the node that publishes, spun on another thread.
        namespace: of the topics; "" is the node's own.
        simulator: name of the simulator's node, relative to that of ``node`` or absolute.
    """

    def __init__(self, node: Node, namespace: str, simulator: str) -> None:
        prefix = f"{namespace.rstrip('/')}/observation/" if namespace else "observation/"
        reliable = QoSProfile(depth=_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self._node = node
        self._images = node.create_publisher(Image, f"{prefix}image", reliable)
        self._poses = node.create_publisher(PoseStamped, f"{prefix}pose", reliable)
        # What was accepted before the simulator knew of this subscription comes late, not never.
        kept = QoSProfile(depth=_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscription = node.create_subscription(
            PoseStamped, f"{prefix}accepted", self._take, kept
        )
        # A pose that comes later than its picture is of no use to it.
        self._discovery = Discovery(node, simulator)
        self._came = threading.Condition()
        self._accepted: dict[int, np.ndarray] = {}
        self._last = 0  # stamp of the newest picture, nanoseconds

    def begin(self) -> None:
        """Forget what came before: another world begins."""
        self._last = 0

    def observe(
        self, frames: np.ndarray, poses: Sequence[PoseStamped], rate: float, timeout: float
    ) -> np.ndarray:
        """Send pictures uint8 [N, H, W, 3] and return the last one's accepted pose [4, 4]."""
        deadline = time.monotonic() + timeout
        topics = (self._images, self._poses)
        while not (
            all(topic.get_subscription_count() for topic in topics) and self._discovery.done
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no simulator was found at {self._images.topic_name!r}")
            time.sleep(0.02)
        period = round(NANOSECONDS / rate)
        if not self._last:
            self._last = self._now() - len(frames) * period
        stamps = [self._last + (i + 1) * period for i in range(len(frames))]
        with self._came:
            self._accepted = {}
        for frame, pose, stamp in zip(frames, poses, stamps, strict=True):
            while self._now() < stamp:  # frames faster than time passes
                time.sleep(0.01)
            header = Header(stamp=time_message(stamp))
            self._poses.publish(PoseStamped(header=header, pose=pose.pose))
            self._images.publish(image_message(frame, header))
            self._last = stamp
            time.sleep(_PAUSE)
        with self._came:
            if not self._came.wait_for(
                lambda: self._accepted.keys() >= set(stamps), deadline - time.monotonic()
            ):
                raise TimeoutError(
                    f"{len(self._accepted)} of {len(stamps)} frames were remembered in "
                    f"{timeout:g} s; the simulator's log says why"
                )
            return self._accepted[stamps[-1]]

    def destroy(self) -> None:
        """Take the topics back from the node."""
        self._discovery.destroy()
        self._node.destroy_publisher(self._images)
        self._node.destroy_publisher(self._poses)
        self._node.destroy_subscription(self._subscription)

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _take(self, message: PoseStamped) -> None:
        with self._came:
            stamp = time_to_nanoseconds(message.header.stamp)
            self._accepted[stamp] = pose_from_message(message.pose)
            self._came.notify_all()
