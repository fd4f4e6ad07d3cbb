# SPDX-License-Identifier: Apache-2.0
"""A node with a ROS context, an executor and a thread of its own, for programs without any."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

SPIN_SECONDS = 0.1  # without a limit, a spin can outlast the shutdown of its context


class NodeSpinner:
    """Spins a node until it is closed.

    Args:
        name: the node's name.
        namespace: the node's namespace.
    """

    def __init__(self, name: str, namespace: str = "") -> None:
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self.node: Node = rclpy.create_node(
            name, namespace=namespace, context=self._context, use_global_arguments=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = False
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def close(self, before: Callable[[], None] | None = None) -> None:
        """End the thread, call ``before``, and destroy node and context."""
        if self._closing:
            return
        self._closing = True
        self._thread.join()
        if before:
            before()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            while not self._closing and self._context.ok():
                self._executor.spin_once(timeout_sec=SPIN_SECONDS)
