# SPDX-License-Identifier: Apache-2.0
"""Topics of a simulator -> a bag, as the serialised messages come."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from functools import partial

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from hydra_ros.recording.writer import BagWriter

# What a simulator is told and what it answers; relative to its namespace, or absolute.
TOPICS = (
    "pose_cmd",
    "path_cmd",
    "cmd_vel",
    "camera/image_raw",
    "camera/camera_info",
    "camera/pose",
    "memory",
    "memory/markers",
    "/diagnostics",
    "/tf",
    "/clock",
)
DEPTH = 200


@dataclass
class _Recorded:
    subscription: Subscription
    reliable: bool
    type_hash: str


class Recorder:
    """Subscribes to what is there and writes it; ``look`` is to be called now and then.

    Args:
        node: subscribes, in the namespace of the simulator.
        writer: takes the messages, on the thread that spins the node.
        topics: names to record; a topic is taken up once a type is known for it.
        as_in_root: write the topics as if the simulator were in no namespace.
    """

    def __init__(
        self,
        node: Node,
        writer: BagWriter,
        topics: tuple[str, ...] = TOPICS,
        *,
        as_in_root: bool = False,
    ) -> None:
        self._node = node
        self._left_out = node.get_namespace().rstrip("/") if as_in_root else ""
        self._writer = writer
        self._topics = {node.resolve_topic_name(topic) for topic in topics}
        self._recorded: dict[tuple[str, str], _Recorded] = {}
        self.unknown: set[str] = set()  # types whose definitions are not installed

    @property
    def topics(self) -> list[str]:
        """Topics that are listened to."""
        return sorted({topic for topic, _ in self._recorded})

    def look(self) -> None:
        """Subscribe to what is new; follow publishers that turned up with another reliability."""
        for topic, types in self._node.get_topic_names_and_types():
            for kind in types:
                if topic in self._topics:
                    self._follow(topic, kind)

    def _follow(self, topic: str, kind: str) -> None:
        publishers = [
            info
            for info in self._node.get_publishers_info_by_topic(topic)
            if info.topic_type == kind
        ]
        # Reliable loses nothing, but does not hear a best-effort publisher.
        reliable = all(
            info.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT for info in publishers
        )
        known = self._recorded.get((topic, kind))
        if known:
            if publishers and not known.type_hash:
                known.type_hash = _hash(publishers[0])
            if known.reliable == reliable:
                return
            self._node.destroy_subscription(known.subscription)
        if kind in self.unknown:
            return
        try:
            message_type = _message_type(kind)
        except (AttributeError, ModuleNotFoundError):
            self.unknown.add(kind)
            return
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self._recorded[topic, kind] = _Recorded(
            self._node.create_subscription(
                message_type,
                topic,
                partial(self._take, topic, kind),
                QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=DEPTH, reliability=policy),
                raw=True,
            ),
            reliable,
            _hash(publishers[0]) if publishers else "",
        )

    def _take(self, topic: str, kind: str, data: bytes) -> None:
        type_hash = self._recorded[topic, kind].type_hash
        try:
            name = topic.removeprefix(self._left_out)
            self._writer.write(name, kind, data, time.time_ns(), type_hash=type_hash)
        except LookupError:
            self.unknown.add(kind)


def _message_type(kind: str) -> type:
    package, _, name = kind.partition("/msg/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def _hash(endpoint: object) -> str:
    text = str(getattr(endpoint, "topic_type_hash", ""))
    return text if text.startswith("RIHS01_") else ""
