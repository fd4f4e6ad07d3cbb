# SPDX-License-Identifier: Apache-2.0
"""Simulated frames -> image, camera_info, pose and transforms, under one stamp at a steady pace."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from hydra_ros import conversions
from hydra_ros.frame_clock import FrameClock
from hydra_ros.parameters import Settings
from hydra_ros.rates import Pacer, RateMeter
from hydra_ros.simulation_thread import FrameBatch, WorldFacts

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # not to be had as a wheel; part of every ROS installation
    TFMessage = None

# Reliable, as drivers are (REP-2003). This many frames are kept until subscribers have them:
# with the middleware's own depth of one, a frame that is not confirmed in time would be lost.
FRAME_DEPTH = 10


@dataclass(frozen=True)
class Frame:
    """One frame on its way out: uint8 [H, W, 3], optical pose [4, 4], simulated time in s."""

    image: np.ndarray
    pose: np.ndarray
    time: float
    commanded: float | None


class FramePublisher:
    """Publishes the frames of the current run, paced by a steady clock.

    ``put`` may be called from any thread; everything else belongs to the executor's thread.
    """

    def __init__(self, node: LifecycleNode, settings: Settings, clock: FrameClock) -> None:
        self.settings = settings
        self.active = False  # frames are published; otherwise they wait
        self.shown_pose = np.eye(4)
        self.published = 0
        self.rate = RateMeter()
        self.latency = 0.0  # s from a command to the first frame that it shaped
        self._node = node
        self._clock = clock
        self._fov_x = 1.0
        self._fps = 1.0
        self._pacer = Pacer()
        self._lock = threading.Lock()
        self._frames: deque[Frame] = deque()
        self._run = 0

        def publisher(kind: type, topic: str, depth: int = FRAME_DEPTH) -> LifecyclePublisher:
            return node.create_lifecycle_publisher(
                kind,
                topic,
                QoSProfile(
                    history=HistoryPolicy.KEEP_LAST,
                    depth=depth,
                    reliability=ReliabilityPolicy.RELIABLE,
                ),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )

        self._image = publisher(Image, "camera/image_raw")
        self._compressed = publisher(CompressedImage, "camera/image_raw/compressed")
        self._camera_info = publisher(CameraInfo, "camera/camera_info")
        self._pose = publisher(PoseStamped, "camera/pose")
        self._tf = None
        if TFMessage is None:
            node.get_logger().warning("tf2_msgs is not installed: no transforms on /tf")
        else:
            self._tf = publisher(TFMessage, "/tf", 100)
        self._time = None
        if settings.publish_clock:
            self._time = publisher(Clock, "/clock")

    def start_run(self, run: int, facts: WorldFacts) -> None:
        """Drop the frames of former runs and take those of ``run``, a world that just began."""
        with self._lock:
            self._run = run
            self._frames.clear()
        self.shown_pose = facts.pose
        self._fps, self._fov_x = facts.fps, facts.fov_x
        self.rate.clear()
        self._clock.start_world(self._node.get_clock().now().nanoseconds, facts.time)

    def drop_run(self) -> None:
        """Drop all frames, those still to come too, until ``start_run``."""
        with self._lock:
            self._run = -1
            self._frames.clear()

    def put(self, batch: FrameBatch) -> None:
        """Queue decoded frames; those of another run are dropped."""
        frames = [
            Frame(image, pose, float(seconds), batch.commanded)
            for image, pose, seconds in zip(batch.frames, batch.poses, batch.times, strict=True)
        ]
        with self._lock:
            if batch.run == self._run:
                self._frames.extend(frames)

    def stamp_of(self, seconds: float) -> Time:
        """Return the stamp that the frame of a simulated time has, or would have now."""
        return conversions.time_message(
            self._clock.expected(seconds, self._node.get_clock().now().nanoseconds)
        )

    def now(self) -> Time:
        """Return what time it is for those who go by the frames' stamps."""
        return conversions.time_message(
            self._clock.now(self._node.get_clock().now().nanoseconds)
        )

    @property
    def waiting(self) -> int:
        """Frames that are there and not yet published."""
        return len(self._frames)

    def publish_due(self) -> float | None:
        """Publish what is due; return the seconds until the next frame is due, None if none is."""
        if not self.active:
            return None
        speed = 1.0 if self.settings.mode == "realtime" else self.settings.playback_speed
        while True:
            now = time.monotonic()
            with self._lock:
                if not self._frames:
                    return None
                if not self._pacer.due(now, speed * self._fps):
                    return self._pacer.wait(now)
                frame = self._frames.popleft()
            self._publish(frame, now)

    def _publish(self, frame: Frame, now: float) -> None:
        settings = self.settings
        stamp = self._clock.stamp(frame.time, self._node.get_clock().now().nanoseconds)
        stamp = conversions.time_message(stamp)
        in_world = Header(stamp=stamp, frame_id=settings.world_frame)
        in_camera = Header(stamp=stamp, frame_id=settings.optical_frame)
        if self._time is not None:
            self._time.publish(Clock(clock=stamp))
        body = conversions.optical_to_body(frame.pose)
        if self._tf is not None:
            names = (settings.world_frame, settings.camera_frame, settings.optical_frame)
            transforms = conversions.camera_transforms(body, stamp, *names)
            self._tf.publish(TFMessage(transforms=transforms))
        shown = body if settings.pose_convention == "body" else frame.pose
        self._pose.publish(conversions.pose_stamped_message(shown, in_world))
        height, width, _ = frame.image.shape
        self._camera_info.publish(
            conversions.camera_info_message(height, width, self._fov_x, in_camera)
        )
        self._image.publish(conversions.image_message(frame.image, in_camera))
        if settings.publish_compressed and self._compressed.get_subscription_count():
            self._compressed.publish(
                conversions.compressed_image_message(frame.image, in_camera, settings.jpeg_quality)
            )
        self.shown_pose = frame.pose
        self.published += 1
        self.rate.add(now)
        if frame.commanded is not None:
            self.latency = now - frame.commanded
