# SPDX-License-Identifier: Apache-2.0
"""JPEGs of the live image: as published where they are, else encoded from the raw image."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from hydra_ros.conversions import (
    compressed_image_message,
    image_from_message,
    time_to_nanoseconds,
)

QUALITY = 90
PATIENCE = 3.0  # s in which frames are published and no JPEG of them comes

# Never more than the newest, and never asked for again: nothing here can slow the simulator.
NEWEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=2, reliability=ReliabilityPolicy.BEST_EFFORT
)


class ImageSource:
    """Subscribes to one of the two image topics while somebody watches.

    Args:
        node: the node that subscribes.
        take: gets the stamp in nanoseconds and the JPEG of every frame.
    """

    def __init__(self, node: Node, take: Callable[[int, bytes], None]) -> None:
        self._node = node
        self._take = take
        self._subscription = None
        self._raw = False
        self._waiting_since: float | None = None

    def watch(self, wanted: bool) -> None:
        """Subscribe or unsubscribe."""
        if wanted == (self._subscription is not None):
            return
        self._waiting_since = None
        if not wanted:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
        elif self._raw:
            self._subscription = self._node.create_subscription(
                Image, "camera/image_raw", self._take_raw, NEWEST
            )
        else:
            self._subscription = self._node.create_subscription(
                CompressedImage, "camera/image_raw/compressed", self._take_compressed, NEWEST
            )

    def a_frame_was_published(self, now: float) -> None:
        """Note that a frame went out, seen by its pose; ``now`` in seconds."""
        if self._waiting_since is None:
            self._waiting_since = now

    def look(self, now: float) -> None:
        """Change to the other topic when frames go out and none arrives here."""
        waited = self._waiting_since is not None and now - self._waiting_since > PATIENCE
        if waited and self._subscription is not None:
            self.watch(False)
            self._raw = not self._raw
            self.watch(True)

    def _take_compressed(self, message: CompressedImage) -> None:
        self._waiting_since = None
        self._take(time_to_nanoseconds(message.header.stamp), bytes(message.data))

    def _take_raw(self, message: Image) -> None:
        self._waiting_since = None
        try:
            frame = image_from_message(message)
        except ValueError as error:
            self._node.get_logger().warning(f"camera/image_raw: {error}", once=True)
            return
        jpeg = compressed_image_message(frame, message.header, QUALITY)
        self._take(time_to_nanoseconds(message.header.stamp), bytes(jpeg.data))
