# SPDX-License-Identifier: Apache-2.0
"""The other side of the simulator's topics: commands a camera path, collects what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import rclpy
from nav_msgs.msg import Path
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header

from hydra_ros.conversions import (
    NANOSECONDS,
    body_to_optical,
    optical_to_body,
    pose_from_message,
    pose_stamped_message,
    time_message,
)
from hydra_ros.demo.node_process import NodeError
from hydra_ros.frame_collector import FrameCollector, ReceivedFrame
from hydra_ros.srv import Reset

WORLD_FRAME = "map"
SPARE_FRAMES = 300  # that may come before a path is followed
SAME_POSE = 1e-6  # metres and rotation entries; more than a pose loses on its way over DDS


def same_pose(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether poses [..., 4, 4] that went over DDS are equal."""
    return np.allclose(a, b, rtol=0.0, atol=SAME_POSE)


class Client:
    """Talks to the ``hydra_simulator`` of a namespace, over DDS, in a ROS context of its own.

    Args:
        namespace: where the node is.
        check: called while waiting; raises when waiting makes no sense any more.
    """

    def __init__(self, namespace: str, check: Callable[[], None]) -> None:
        self._check = check
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._node = rclpy.create_node(
            "hydra_demo", namespace=namespace, context=self._context, use_global_arguments=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._path = self._node.create_publisher(Path, "path_cmd", 1)
        self._received: list[ReceivedFrame] = []
        self.first_frame_at = 0.0  # steady time
        self._collector = FrameCollector(self._node, self._take)
        # After the collector: the answer to a reset shows that frames will come (``Discovery``).
        self._reset = self._node.create_client(Reset, "hydra_simulator/reset")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait_for_node(self, timeout: float, progress: Callable[[], None]) -> None:
        """Wait until the node's service and topics are found; ``progress`` is called meanwhile."""
        self._wait(
            lambda: self._reset.service_is_ready()
            and self._path.get_subscription_count() > 0
            and self._collector.connected,
            timeout,
            "the node was not found over DDS",
            progress,
        )

    def reset(
        self, source: str, seed: int, timeout: float, progress: Callable[[], None]
    ) -> np.ndarray:
        """Start a world; return the optical pose [4, 4] of its context's last frame.

        Raises:
            NodeError: the node refuses, with its reason.
        """
        answer = self._reset.call_async(Reset.Request(source=source, seed=seed))
        self._wait(answer.done, timeout, "the node did not answer the reset", progress)
        response = answer.result()
        if not response.success:
            raise NodeError(f"the node refuses the reset: {response.message}")
        return body_to_optical(pose_from_message(response.start_pose.pose))

    def send_path(self, poses: np.ndarray, fps: float) -> None:
        """Command the optical poses [N, 4, 4], one for each of the next frames."""
        start = self._node.get_clock().now().nanoseconds
        path = Path(header=Header(stamp=time_message(start), frame_id=WORLD_FRAME))
        for index, pose in enumerate(optical_to_body(poses)):
            stamp = time_message(start + round(index * NANOSECONDS / fps))
            path.poses.append(pose_stamped_message(pose, Header(stamp=stamp, frame_id=WORLD_FRAME)))
        self._path.publish(path)

    def receive(
        self,
        count: int,
        timeout: float,
        progress: Callable[[int], None],
        *,
        until: np.ndarray | None = None,
    ) -> list[ReceivedFrame]:
        """Return the frames since the client was made, in the order of stamps: ``count`` of them.

        ``until`` is a pose [4, 4] to go on for, beyond ``count``, to the first frame that shows
        it. ``progress`` gets the number of frames so far. ``timeout`` is the longest wait for
        one frame, in seconds.

        Raises:
            TimeoutError: no frame for so long, or too many without that pose.
        """

        def complete() -> bool:
            have = len(self._received)
            if have < count:
                return False
            if have > 3 * count + SPARE_FRAMES:
                raise TimeoutError(f"the camera did not follow the path in {have} frames")
            return until is None or same_pose(self._received[-1].pose, until)

        while not complete():
            have = len(self._received)
            self._wait(
                lambda have=have: len(self._received) > have,
                timeout,
                f"{have} of {count} frames arrived and then none",
                lambda: progress(len(self._received)),
            )
        progress(len(self._received))
        return sorted(self._received, key=lambda frame: frame.stamp)

    def _wait(
        self,
        done: Callable[[], bool],
        timeout: float,
        failure: str,
        progress: Callable[[], None],
    ) -> None:
        deadline = time.monotonic() + timeout
        while not done():
            self._check()
            progress()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{failure} for {timeout:g} s")
            self._executor.spin_once(timeout_sec=0.1)

    def _take(self, frame: ReceivedFrame) -> None:
        self.first_frame_at = self.first_frame_at or time.monotonic()
        optical = body_to_optical(frame.pose)
        self._received.append(ReceivedFrame(frame.stamp, frame.image, optical))
