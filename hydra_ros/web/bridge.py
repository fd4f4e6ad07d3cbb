# SPDX-License-Identifier: Apache-2.0
"""The one place where ROS's thread and asyncio's loop meet."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from hydra_ros.post_box import PostBox


class Bridge:
    """Runs a node's executor on a thread of its own and carries things to and from it.

    News go to the loop newest-first-served: while the loop is busy they replace each other by
    kind, so that nothing can pile up between the two.

    Args:
        node: the ROS side; its callbacks run on the bridge's thread alone.
        deliver: gets every piece of news, kind and value, on the loop.
    """

    def __init__(self, context: Context, node: Node, deliver: Callable[[str, Any], None]) -> None:
        self._deliver = deliver
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._news: dict[str, Any] = {}
        self._logger = node.get_logger()
        self._post_box = PostBox(node)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="ros", daemon=True)

    def start(self) -> None:
        """Begin to spin; called on the loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread.ident is not None:  # it may not have come to that
            self._thread.join(5.0)
        self._executor.shutdown(timeout_sec=1.0)

    # --- from ROS's thread ---

    def tell(self, kind: str, value: Any) -> None:
        """Bring news to the loop; they replace news of that kind still under way."""
        with self._lock:
            first = not self._news
            self._news[kind] = value
        if first:
            self._on_loop(self._hand_over)

    # --- from the loop ---

    def post(self, function: Callable[[], Any]) -> None:
        """Run a function on ROS's thread, soon."""
        self._post_box.post(function)

    async def ask(self, start: Callable[[], Any], timeout: float) -> Any:
        """Run ``start`` on ROS's thread and wait for the ROS future that it returns.

        Raises:
            TimeoutError: no result in so many seconds.
            Exception: whatever ``start`` or the future raises.
        """
        answer = asyncio.get_running_loop().create_future()

        def begin() -> None:
            try:
                start().add_done_callback(settle)
            except Exception as error:
                self._on_loop(functools.partial(_settle, answer, None, error))

        def settle(done: Any) -> None:
            error = done.exception()
            result = None if error else done.result()
            self._on_loop(functools.partial(_settle, answer, result, error))

        self.post(begin)
        # Before Python 3.12 wait_for passes over being cancelled where the answer is just there.
        try:
            await asyncio.wait({answer}, timeout=timeout)
        except asyncio.CancelledError:
            if not answer.cancel():
                answer.exception()  # or the loop complains that nobody asked for it
            raise
        if not answer.done():
            answer.cancel()
            raise TimeoutError(f"no answer in {timeout:g} s")
        return answer.result()

    def on_loop(self, function: Callable[..., Any]) -> Callable[..., None]:
        """Return a function for ROS's thread that runs ``function`` on the loop."""

        def call(*arguments: Any) -> None:
            self._on_loop(lambda: function(*arguments))

        return call

    def _on_loop(self, function: Callable[[], Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function)

    def _hand_over(self) -> None:
        with self._lock:
            news, self._news = self._news, {}
        for kind, value in news.items():
            self._deliver(kind, value)

    def _spin(self) -> None:
        # In steps: an endless spin may miss the end of its context.
        while not self._stopped.is_set():
            try:
                self._executor.spin_once(timeout_sec=0.2)
            except ExternalShutdownException:
                return
            except Exception as error:  # of one callback; the next may be well
                self._logger.error(f"{type(error).__name__}: {error}")


def _settle(answer: asyncio.Future, result: Any, error: BaseException | None) -> None:
    if answer.done():  # nobody waits any more
        return
    if error:
        answer.set_exception(error)
    else:
        answer.set_result(result)
