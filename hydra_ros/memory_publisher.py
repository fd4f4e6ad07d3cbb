# SPDX-License-Identifier: Apache-2.0
"""What the memory holds and what a chunk took of it: messages, markers and a heat map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from hydra_ros.conversions import image_message
from hydra_ros.memory_view import (
    MemoryView,
    memory_markers,
    memory_message,
    memory_view,
    no_markers,
)
from hydra_ros.msg import Memory
from hydra_ros.parameters import Settings
from hydra_ros.retrieval_picture import retrieval_picture


class MemoryPublisher:
    """Publishes chunk by chunk what somebody wants to see; otherwise it costs nothing.

    Args:
        node: the node that publishes.
        settings: returns the present parameters.
        post: runs a function soon on the executor's thread; may be called from any thread.
        stamp_of: returns the stamp of a simulated time in seconds.
        pose_message: turns an optical pose [4, 4] into a message in the world frame.
    """

    def __init__(
        self,
        node: LifecycleNode,
        settings: Callable[[], Settings],
        post: Callable[[Callable[[], None]], None],
        stamp_of: Callable[[float], Time],
        pose_message: Callable[[np.ndarray], PoseStamped],
    ) -> None:
        self._settings = settings
        self._post = post
        self._stamp_of = stamp_of
        self._pose_message = pose_message

        def publisher(kind: type, topic: str) -> LifecyclePublisher:
            # The last one is kept for who comes later: in lockstep the next may take long.
            return node.create_lifecycle_publisher(
                kind,
                topic,
                QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )

        self._memory = publisher(Memory, "memory")
        self._markers = publisher(MarkerArray, "memory/markers")
        self._retrieval = publisher(Image, "memory/retrieval")

    def start_world(self) -> None:
        """Remove the markers of the former world."""
        if self._markers.get_subscription_count():
            self._markers.publish(no_markers(self._header(0.0)))

    def watch(self) -> ChunkWatch | None:
        """Return what is to look at the next chunk, None where nobody wants to see it."""
        settings = self._settings()
        wanted = (
            settings.publish_memory
            or self._memory.get_subscription_count()
            or self._markers.get_subscription_count()
        )
        if not wanted and not settings.publish_retrieval:
            return None
        return ChunkWatch(self, settings)

    # --- On the executor's thread ---

    def publish(self, view: MemoryView) -> None:
        """Publish what a chunk took of the memory."""
        header = self._header(view.time)
        always = self._settings().publish_memory
        if always or self._memory.get_subscription_count():
            self._memory.publish(
                memory_message(view, header, lambda pose: self._pose_message(pose).pose)
            )
        if always or self._markers.get_subscription_count():
            self._markers.publish(memory_markers(view, header))

    def publish_retrieval(self, time: float, picture: np.ndarray) -> None:
        """Publish a heat map, uint8 [H, W, 3] RGB, of the chunk that begins at a time."""
        self._retrieval.publish(image_message(picture, self._header(time)))

    def _header(self, time: float) -> Header:
        return Header(stamp=self._stamp_of(time), frame_id=self._settings().world_frame)

    # --- From the simulation thread ---

    def hand_over(self, publish: Callable[[], None]) -> None:
        """Let something be published on the executor's thread."""
        self._post(publish)


class ChunkWatch:
    """Looks at one chunk, on the simulation thread."""

    def __init__(self, publisher: MemoryPublisher, settings: Settings) -> None:
        self.retrieval = settings.publish_retrieval
        self._publisher = publisher
        self._settings = settings
        self._times = np.zeros(0)
        self._start = 0.0

    def context_chosen(self, state: Any, selection: Any, *, period: float, aspect: float) -> None:
        """Take a look at the memory before the chunk is sampled."""
        self._start = state.time + period
        self._times = state.memory.times[selection.indices]
        view = memory_view(
            state,
            selection,
            period=period,
            aspect=aspect,
            sample=self._settings.memory_sample,
            thumbnails=self._settings.memory_thumbnails,
        )
        self._publisher.hand_over(lambda: self._publisher.publish(view))

    def retrieved(self, shares: np.ndarray, *, latent_period: float) -> None:
        """Take the retrieval [target, context] of the chunk after it was sampled."""
        picture = retrieval_picture(
            shares, self._start - self._times, latent_period * np.arange(len(shares))
        )
        self._publisher.hand_over(lambda: self._publisher.publish_retrieval(self._start, picture))
