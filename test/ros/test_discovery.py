# SPDX-License-Identifier: Apache-2.0
import threading
import time
from contextlib import suppress

import pytest
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from std_msgs.msg import String

from hydra_ros.discovery import Discovery


@pytest.fixture
def participant():
    """Make nodes that spin in contexts of their own, as those of other processes do."""
    contexts, threads = [], []

    def make(name: str):
        context = rclpy.Context()
        rclpy.init(context=context)
        contexts.append(context)
        node = rclpy.create_node(name, namespace="/discovery", context=context)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)

        def spin() -> None:
            with suppress(ExternalShutdownException):
                while context.ok():
                    executor.spin_once(timeout_sec=0.05)

        return node, threading.Thread(target=spin)

    def start(made):
        node, thread = made
        threads.append(thread)
        thread.start()
        return node

    yield make, start
    for context in contexts:
        rclpy.shutdown(context=context)
    for thread in threads:
        thread.join(10)


def wait_until(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_it_is_done_when_the_simulator_answers_and_messages_come_from_then_on(participant):
    make, start = participant
    driver = start(make("driver"))
    received: list[String] = []
    driver.create_subscription(String, "frames", received.append, 100)
    discovery = Discovery(driver, "simulator")
    assert not wait_until(lambda: discovery.done, 0.5)  # there is none
    busy = make("simulator")
    publisher = busy[0].create_publisher(String, "frames", 100)
    assert wait_until(lambda: driver.count_publishers("frames"), 10)
    assert not wait_until(lambda: discovery.done, 2.5)  # it was found, and answers nothing yet
    start(busy)
    assert wait_until(lambda: discovery.done, 10)
    publisher.publish(String(data="first"))
    assert wait_until(lambda: received, 10)
    assert not list(driver.clients)  # nobody asks any more
    assert discovery.done


def test_it_can_be_given_up(participant):
    make, start = participant
    driver = start(make("driver"))
    discovery = Discovery(driver, "simulator")
    discovery.destroy()
    discovery.destroy()
    assert not list(driver.clients)
    assert not discovery.done  # nobody answered
