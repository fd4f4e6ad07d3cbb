# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.node_start``: from starting the node to its first frame elsewhere.

The node runs in a process of its own in mode "realtime", with the default weights and a world that
it draws itself; the clock stops when this process has received an image over DDS.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time

import rclpy
from sensor_msgs.msg import Image

from hydra_ros.environment import use_dds_profile

LIMIT = 120.0  # seconds to wait for a frame


def start_once(namespace: str) -> float:
    """Return the seconds until the first frame of a node in that namespace."""
    node = rclpy.create_node("listener", namespace=namespace)
    received: list[float] = []
    node.create_subscription(
        Image, "camera/image_raw", lambda _: received.append(time.monotonic()), 10
    )
    command = [sys.executable, "-m", "hydra_ros.simulator_node", "--ros-args"]
    command += ["-r", f"__ns:={namespace}", "-p", "mode:=realtime", "-p", "seed:=7"]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not received:
            if process.poll() is not None or time.monotonic() - began > LIMIT:
                raise SystemExit(f"no frame within {LIMIT:.0f} s, or the node ended before")
            rclpy.spin_once(node, timeout_sec=0.02)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        node.destroy_node()
    return received[0] - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    use_dds_profile()
    rclpy.init()
    seconds = [start_once(f"/start{os.getpid()}_{i}") for i in range(repeats)]
    print(" ".join(f"{s:.2f}" for s in seconds), f"s, median {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
