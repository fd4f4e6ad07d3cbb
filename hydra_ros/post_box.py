# SPDX-License-Identifier: Apache-2.0
"""From other threads to the executor's thread."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

from rclpy.exceptions import InvalidHandle
from rclpy.node import Node


class PostBox:
    """Runs functions that other threads hand in, in order, on the executor's thread.

    ``run`` is to be called there now and then: rmw_fastrtps looks whether a guard condition was
    triggered and then clears it, in two steps, so that a trigger in between is lost.
    """

    def __init__(self, node: Node) -> None:
        self._functions: deque[Callable[[], None]] = deque()
        self._guard = node.create_guard_condition(self.run)

    def post(self, function: Callable[[], None]) -> None:
        """Run a function soon; may be called from any thread."""
        self._functions.append(function)
        # Once the node is gone, nobody waits for the function.
        with contextlib.suppress(InvalidHandle):
            self._guard.trigger()

    def run(self) -> None:
        """Run what was handed in."""
        while self._functions:
            self._functions.popleft()()
