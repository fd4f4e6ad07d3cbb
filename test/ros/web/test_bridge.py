# SPDX-License-Identifier: Apache-2.0
"""Between the page's loop and ROS's thread, with a real node."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
import rclpy
from rclpy.task import Future

from hydra_ros.web.bridge import Bridge


def with_bridge(work: Callable[[Bridge], Awaitable[None]]) -> None:
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("bridge_test", context=context, use_global_arguments=False)

    async def run() -> None:
        bridge = Bridge(context, node, lambda kind, value: None)
        bridge.start()
        try:
            await asyncio.wait_for(work(bridge), 20)
        finally:
            bridge.stop()

    try:
        asyncio.run(run())
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def answered(value: int) -> Future:
    future: Future = Future()
    future.set_result(value)
    return future


def test_an_answer_comes_an_error_too_and_none_in_time_is_said():
    def fails() -> Future:
        raise ValueError("nothing to ask")

    async def work(bridge: Bridge) -> None:
        assert await bridge.ask(lambda: answered(7), 10.0) == 7
        with pytest.raises(ValueError, match="nothing to ask"):
            await bridge.ask(fails, 10.0)
        with pytest.raises(TimeoutError, match=r"no answer in 0\.1 s"):
            await bridge.ask(Future, 0.1)

    with_bridge(work)


def test_who_is_cancelled_while_the_answer_arrives_is_cancelled():
    async def work(bridge: Bridge) -> None:
        loop = asyncio.get_running_loop()
        asked, both = threading.Event(), threading.Event()
        future: Future = Future()

        def start() -> Future:
            asked.set()
            return future

        task = asyncio.create_task(bridge.ask(start, 10.0))

        def settle() -> None:
            future.set_result(7)
            loop.call_soon_threadsafe(task.cancel)
            both.set()

        while not asked.is_set():
            await asyncio.sleep(0.01)
        bridge.post(settle)
        assert both.wait(10)  # meanwhile the loop stands still, so that both lie before it
        with pytest.raises(asyncio.CancelledError):
            await task

    with_bridge(work)
