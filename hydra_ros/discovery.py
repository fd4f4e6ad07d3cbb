# SPDX-License-Identifier: Apache-2.0
"""Whether a simulator has found the topics of a node."""

from __future__ import annotations

import time

from rcl_interfaces.srv import GetParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future

_PATIENCE = 1.0  # s after which an answer is taken for lost


class Discovery:
    """Finds out whether a simulator knows the topics that a node made before this.

    That a node sees the simulator's does not say so. Each of two processes learns by itself what
    the other one has, seconds apart where the machine is busy. What the simulator publishes in
    between does not reach the node, however reliable the topic is, and what the node publishes
    comes late. But a process learns of another one's subscriptions, and of its publishers, in the
    order in which they were made: a service client that is made after them can only be answered
    when they are known.

    Args:
        node: a node that is being spun; its subscriptions and publishers are those that count.
        simulator: name of the simulator's node, relative to that of ``node`` or absolute.
    """

    def __init__(self, node: Node, simulator: str) -> None:
        self._node = node
        self._client: Client | None = node.create_client(
            GetParameters, f"{simulator}/get_parameters"
        )
        self._answers: list[Future] = []
        self._asked = float("-inf")
        self._answered = False

    @property
    def done(self) -> bool:
        """Whether the simulator has answered; asks it, again and again, until it has."""
        if self._client is None:
            return self._answered
        if any(answer.done() for answer in self._answers):
            self._answered = True
            self.destroy()
        elif self._client.service_is_ready() and time.monotonic() - self._asked > _PATIENCE:
            self._asked = time.monotonic()
            self._answers.append(self._client.call_async(GetParameters.Request()))
        return self._answered

    def destroy(self) -> None:
        """Ask no more."""
        if self._client is not None:
            self._node.destroy_client(self._client)
            self._client = None
