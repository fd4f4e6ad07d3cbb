# SPDX-License-Identifier: Apache-2.0
"""Images to another process and back over DDS: what a healthy ROS 2 installation can do."""

from __future__ import annotations

import argparse
import array
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

# The command line tool describes its commands without loading ROS: rclpy and the messages are
# imported where they are used.


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """Images sent and come back; seconds until the other process was found and per image."""

    sent: int
    received: int
    discovery_s: float
    median_s: float


def image_round_trip(
    *, count: int = 10, rate: float = 30.0, height: int = 480, width: int = 832,
    discovery_timeout_s: float = 15.0, drain_timeout_s: float = 3.0,
) -> RoundTrip:
    """Send ``count`` rgb8 images at ``rate`` Hz to a child process that sends each one back.

    Reliable, keep last 10, in a ROS context of its own. Raises TimeoutError when the other
    process is not found or ends early.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    name = f"loopback_{time.monotonic_ns()}"
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    child = subprocess.Popen([sys.executable, "-m", __name__, name])
    node = rclpy.create_node(name, context=context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    sent_at: dict[str, float] = {}
    trips: list[float] = []

    returned = False  # an empty image, which is sent first

    def come_back(message: Image) -> None:
        nonlocal returned
        if message.header.frame_id in sent_at:
            trips.append(time.monotonic() - sent_at[message.header.frame_id])
        else:
            returned = True

    try:
        publisher = node.create_publisher(Image, f"{name}/there", _quality())
        node.create_subscription(Image, f"{name}/back", come_back, _quality())
        started = time.monotonic()
        while not returned:
            found = publisher.get_subscription_count() and node.count_publishers(f"{name}/back")
            if child.poll() is not None:
                raise TimeoutError(f"the other process ended early (exit code {child.returncode})")
            if time.monotonic() - started > discovery_timeout_s:
                if found:
                    break  # it may send nothing back: that will be told by the count
                raise TimeoutError(f"no other process was found in {discovery_timeout_s:g} s")
            if found:  # on this side; the other one may still have to find what listens here
                publisher.publish(Image())
            executor.spin_once(timeout_sec=0.05)
        discovery_s = time.monotonic() - started

        message = Image(height=height, width=width, encoding="rgb8", step=3 * width)
        message.data = array.array("B", bytes(height * width * 3))
        start = time.monotonic()
        for index in range(count):
            while (left := start + index / rate - time.monotonic()) > 0:
                executor.spin_once(timeout_sec=left)
            message.header.frame_id = str(index)
            sent_at[str(index)] = time.monotonic()
            publisher.publish(message)
        deadline = time.monotonic() + drain_timeout_s
        while len(trips) < count and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
    finally:
        _end(child)
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    median_s = statistics.median(trips) if trips else float("nan")
    return RoundTrip(sent=count, received=len(trips), discovery_s=discovery_s, median_s=median_s)


def _end(child: subprocess.Popen, patience_s: float = 5.0) -> None:
    """Its measurement is over: however the other process is, it does not outlive this one."""
    child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _quality():
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    return QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def _send_back(name: str) -> None:
    """The other process: every image on ``<name>/there`` goes out again on ``<name>/back``."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions
    from sensor_msgs.msg import Image

    # rclpy's own handler (7.1) can wake the executor before it has shut the context down: the
    # executor then waits again, for ever. Python's raises at the next turn of the loop.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(f"{name}_other")
    publisher = node.create_publisher(Image, f"{name}/back", _quality())
    node.create_subscription(Image, f"{name}/there", publisher.publish, _quality())
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while True:
            executor.spin_once(timeout_sec=0.1)
    except KeyboardInterrupt:
        pass
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="prefix of the two topics")
    _send_back(parser.parse_args().name)
