# SPDX-License-Identifier: Apache-2.0
"""An action client whose answers and feedback are not lost while another thread spins its node."""

from __future__ import annotations

import threading
from typing import Any

import rclpy.action


class ActionClient(rclpy.action.ActionClient):
    """``rclpy.action.ActionClient`` that loses neither answers nor feedback.

    rclpy sends a request and only then notes whose it is. An answer that an executor's thread takes
    in between is dropped, and its future never ends (ros2/rclpy issue 1123; later versions of
    rclpy mend it). Here a request is sent and noted before answers are taken.

    rclpy takes one message of each kind at a time, and forgets a goal's feedback callback with its
    result: feedback that waits behind other feedback then reaches nobody. Here results wait until
    no feedback does.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._sending = threading.RLock()
        super().__init__(*arguments, **options)

    def take_data(self) -> Any:
        with self._sending:
            if self._is_feedback_ready:
                self._is_result_response_ready = False  # it stays in its queue
            return super().take_data()

    def send_goal_async(self, *arguments: Any, **options: Any) -> Any:
        with self._sending:
            return super().send_goal_async(*arguments, **options)

    # What goal handles call to cancel a goal and to ask for its result.

    def _cancel_goal_async(self, goal_handle: Any) -> Any:
        with self._sending:
            return super()._cancel_goal_async(goal_handle)

    def _get_result_async(self, goal_handle: Any) -> Any:
        with self._sending:
            return super()._get_result_async(goal_handle)


def cancel_when_accepted(sent: Any) -> None:
    """Give up a goal that was ``sent``: only an accepted one can be cancelled, so once it is."""

    def cancel(done: Any) -> None:
        if not done.exception() and done.result().accepted:
            done.result().cancel_goal_async()

    if sent.done():
        cancel(sent)
    else:
        sent.add_done_callback(cancel)
