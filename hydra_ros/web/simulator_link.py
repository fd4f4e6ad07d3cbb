# SPDX-License-Identifier: Apache-2.0
"""The page's ROS node: the simulator's topics, services and action, as any client sees them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped, Vector3
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile

from hydra_ros import srv
from hydra_ros.action import Rollout
from hydra_ros.action_client import ActionClient
from hydra_ros.msg import Memory
from hydra_ros.web.image_source import ImageSource
from hydra_ros.web.protocol import Velocity
from hydra_ros.web.views import camera_view, diagnostics_view, memory_view

SIMULATOR = "hydra_simulator"
SERVICES = {
    "reset": srv.Reset,
    "save_state": srv.SaveState,
    "load_state": srv.LoadState,
    "delete_state": srv.DeleteState,
    "list_states": srv.ListStates,
    "commit": srv.Commit,
    "set_parameters": SetParameters,
}
# The simulator's parameters that a client has to know, with the values taken until it says.
PARAMETERS = {
    "mode": "",
    "pose_convention": "body",
    "world_frame": "map",
    "camera_frame": "camera_link",
    "cmd_vel_type": "auto",
    "max_linear_speed": 2.0,
    "max_angular_speed": 2.0,
}
LOOK = 0.5  # s between looks at what is there
SILENCE = 6.0  # s; the simulator speaks at least once a second on /diagnostics


class Unavailable(RuntimeError):
    """The simulator does not offer this; the message says what."""


class SimulatorLink:
    """Subscribes, publishes and calls; everything here runs on ROS's thread.

    Args:
        node: the node to do it with.
        tell: gets news: "frame", "memory", "diagnostics" and "link", each with its value.
    """

    def __init__(self, node: Node, tell: Callable[[str, Any], None]) -> None:
        self._node = node
        self._tell = tell
        self.parameters = dict(PARAMETERS)
        self._camera: dict[str, Any] | None = None
        self._heard = 0.0
        self._asked_parameters = False
        self._status_name = node.resolve_service_name(SIMULATOR) + ": simulator"
        self._images = ImageSource(node, self._take_image)
        node.create_subscription(PoseStamped, "camera/pose", self._take_pose, 10)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)
        # Depth 1: an old memory is of no use.
        node.create_subscription(Memory, "memory", self._take_memory, QoSProfile(depth=1))
        self._twist: Any = None
        self._clients = {
            name: node.create_client(kind, f"{SIMULATOR}/{name}") for name, kind in SERVICES.items()
        }
        self._rollout = ActionClient(node, Rollout, f"{SIMULATOR}/rollout")
        self._get_parameters = node.create_client(GetParameters, f"{SIMULATOR}/get_parameters")
        node.create_timer(LOOK, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def convention(self) -> str:
        """What poses in the world frame are poses of: "body" or "optical"."""
        return self.parameters["pose_convention"]

    def watch(self, wanted: bool) -> None:
        """Take images, or take none while nobody looks."""
        self._images.watch(wanted)

    def drive(self, velocity: Velocity) -> None:
        """Publish a velocity."""
        kind = TwistStamped if self.parameters["cmd_vel_type"] == "twist_stamped" else Twist
        if self._twist is None or self._twist.msg_type is not kind:
            self._twist = self._node.create_publisher(kind, "cmd_vel", 10)
        twist = Twist(
            linear=Vector3(**dict(zip("xyz", velocity.linear, strict=True))),
            angular=Vector3(**dict(zip("xyz", velocity.angular, strict=True))),
        )
        if kind is TwistStamped:
            message = TwistStamped(twist=twist)
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._twist.publish(message)
        else:
            self._twist.publish(twist)

    def call(self, name: str, request: Any) -> Any:
        """Call a service of the simulator; return its ROS future.

        Raises:
            Unavailable: the simulator has no such service, or is gone.
        """
        client = self._clients[name]
        if not client.service_is_ready():
            raise Unavailable(f"the simulator offers no {name}")
        return client.call_async(request)

    def imagine(self, goal: Rollout.Goal, feedback: Callable[[Any], None]) -> Any:
        """Send a goal of imagined futures; return the ROS future of its handle.

        Raises:
            Unavailable: the simulator has no such action, or is gone.
        """
        if not self._rollout.server_is_ready():
            raise Unavailable("the simulator offers no rollout")
        return self._rollout.send_goal_async(goal, feedback_callback=feedback)

    # --- what comes ---

    def _take_image(self, stamp: int, jpeg: bytes) -> None:
        self._heard = time.monotonic()
        self._tell("frame", ({"stamp": stamp / 1e9, "camera": self._camera}, [jpeg]))

    def _take_pose(self, message: PoseStamped) -> None:
        self._heard = time.monotonic()
        self._camera = camera_view(message.pose, self.convention)
        self._images.a_frame_was_published(self._heard)

    def _take_memory(self, message: Memory) -> None:
        self._tell("memory", memory_view(message, self.convention))

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        view = diagnostics_view(message, self._status_name)
        if view:
            self._heard = time.monotonic()
            self._tell("diagnostics", view)

    # --- what is there ---

    def _look(self) -> None:
        now = time.monotonic()
        available = {name: client.service_is_ready() for name, client in self._clients.items()}
        available["rollout"] = self._rollout.server_is_ready()
        available["memory"] = self._node.count_publishers("memory") > 0
        alive = now - self._heard < SILENCE and available["reset"]
        if not alive:
            self._asked_parameters = False
        elif not self._asked_parameters and self._get_parameters.service_is_ready():
            self._asked_parameters = True
            request = GetParameters.Request(names=list(PARAMETERS))
            self._get_parameters.call_async(request).add_done_callback(self._take_parameters)
        self._images.look(now)
        self._tell(
            "link", {"alive": alive, "available": available, "parameters": dict(self.parameters)}
        )

    def _take_parameters(self, answer: Any) -> None:
        if answer.exception() or len(answer.result().values) != len(PARAMETERS):
            return
        for name, value in zip(PARAMETERS, answer.result().values, strict=True):
            taken = {str: value.string_value, float: value.double_value}[type(PARAMETERS[name])]
            self.parameters[name] = taken or PARAMETERS[name]
