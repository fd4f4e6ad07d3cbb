# SPDX-License-Identifier: Apache-2.0
"""What a simulator says of its state, for those who wait for it."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

# In these no command is served yet; what follows may take as long as loading a model does.
NOT_READY = ("unconfigured", "inactive", "starting")


class StateWatch:
    """Listens to /diagnostics, which a simulator publishes once a second.

    Args:
        node: a node that is being spun.
        simulator: name of the simulator's node, relative to that of ``node`` or absolute.
    """

    def __init__(self, node: Node, simulator: str) -> None:
        self._node = node
        self._name = f"{node.resolve_service_name(simulator)}: simulator"
        self.state = ""  # nothing was heard yet
        self._subscription = node.create_subscription(
            DiagnosticArray, "/diagnostics", self._take, 10
        )

    @property
    def ready(self) -> bool:
        """Whether a world runs, or one may be asked for."""
        return bool(self.state) and self.state not in NOT_READY

    def destroy(self) -> None:
        """Listen no more."""
        self._node.destroy_subscription(self._subscription)

    def _take(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._name:
                values = {pair.key: pair.value for pair in status.values}
                self.state = values.get("state", "")
