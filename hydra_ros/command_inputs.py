# SPDX-License-Identifier: Apache-2.0
"""The command topics: pose_cmd, path_cmd and cmd_vel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from nav_msgs.msg import Path
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from hydra_ros.commands import CameraFrames, Command, CommandError

TWIST_TYPES = {"twist": Twist, "twist_stamped": TwistStamped}

# Deep enough that poses sent all at once are not lost while a callback runs.
COMMAND_DEPTH = 1000


class CommandInputs:
    """Subscribes to the command topics and hands on what is a proper command.

    Args:
        node: the node that subscribes.
        frames: names of the frames that commands may be given in.
        twist_type: "twist", "twist_stamped" or "auto" for whichever is being published.
        take: gets every proper command; may raise ``CommandError`` itself.
        refuse: gets the topic and the error of every command that is refused.
    """

    def __init__(
        self,
        node: Node,
        frames: CameraFrames,
        twist_type: str,
        take: Callable[[Command], None],
        refuse: Callable[[str, CommandError], None],
    ) -> None:
        self._node = node
        self._frames = frames
        self._take = take
        self._refuse = refuse
        self._detect = twist_type == "auto"
        self._subscribe(PoseStamped, "pose_cmd", frames.read_pose)
        self._subscribe(Path, "path_cmd", frames.read_path)
        self._twist_type = TWIST_TYPES.get(twist_type, Twist)
        self._twist = self._subscribe(self._twist_type, "cmd_vel", frames.read_twist)

    def detect_twist_type(self) -> None:
        """Follow the publishers of cmd_vel to the message type that they use.

        A topic has one type, so Twist and TwistStamped cannot be subscribed to side by side;
        to be called now and then.
        """
        if not self._detect:
            return
        publishers = self._node.get_publishers_info_by_topic(self._twist.topic_name)
        present = {info.topic_type for info in publishers}
        names = {kind: f"geometry_msgs/msg/{kind.__name__}" for kind in TWIST_TYPES.values()}
        if names[self._twist_type] in present:
            return
        for kind, name in names.items():
            if name in present:
                self._node.destroy_subscription(self._twist)
                self._twist_type = kind
                self._twist = self._subscribe(kind, "cmd_vel", self._frames.read_twist)
                self._node.get_logger().info(f"cmd_vel is published as {name}; listening to that")
                return

    def _subscribe(self, kind: type, topic: str, read: Callable[[Any], Command]) -> Subscription:
        def receive(message: Any) -> None:
            try:
                self._take(read(message))
            except CommandError as error:
                self._refuse(topic, error)

        return self._node.create_subscription(
            kind,
            topic,
            receive,
            QoSProfile(
                history=HistoryPolicy.KEEP_LAST,
                depth=COMMAND_DEPTH,
                reliability=ReliabilityPolicy.RELIABLE,
            ),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
