# SPDX-License-Identifier: Apache-2.0
"""The observation topics: real images with their poses, into the memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from hydra_ros import conversions
from hydra_ros.commands import CameraFrames, CommandError
from hydra_ros.conversions import NANOSECONDS
from hydra_ros.diagnostics import Counters
from hydra_ros.observation_clips import JITTER, Observation, ObservedClip
from hydra_ros.observation_matching import (
    ObservationError,
    Picture,
    PictureQueue,
    StampedPoses,
    TransformPoses,
)
from hydra_ros.observed_camera import CameraFit, observed_camera
from hydra_ros.parameters import Settings
from hydra_ros.session import Session
from hydra_ros.starting_world import ContextFormat
from hydra_ros.transforms import transform_lookup

IMAGE, POSE = "observation/image", "observation/pose"
CAMERA_INFO = "observation/camera_info"
AHEAD = 0.5  # s that a stamp may be in the future: clocks of two machines differ
DEPTH = 50


class ObservationInputs:
    """Subscribes to the observation topics and hands on what can be remembered.

    Args:
        node: the node that subscribes.
        frames: names of the frames that poses may be given in.
        settings: returns the present parameters.
        session: returns the running session, None while there is none.
        pose_message: turns an optical pose [4, 4] into a message in the world frame.
        refuse: gets the topic and the error of everything that is refused.
        counters: counts what was skipped.
    """

    def __init__(
        self,
        node: Node,
        frames: CameraFrames,
        settings: Callable[[], Settings],
        session: Callable[[], Session | None],
        pose_message: Callable[[np.ndarray], PoseStamped],
        refuse: Callable[[str, CommandError], None],
        counters: Counters,
    ) -> None:
        self._node = node
        self._frames = frames
        self._settings = settings
        self._session = session
        self._pose_message = pose_message
        self._refuse = refuse
        self._counters = counters
        now = settings()
        self._poses = StampedPoses(now.observation_tolerance)
        source = self._poses
        if now.observation_pose == "tf":
            source = TransformPoses(transform_lookup(node, frames.world))
        self._pictures = PictureQueue(source, wait=now.observation_wait)
        self._run = -1  # the world that the pictures are for
        self._last = 0  # stamp of the newest picture, nanoseconds
        self._info: CameraInfo | None = None
        self._fit: tuple[tuple[ContextFormat, bool], CameraFit] | None = None
        self._accepted = node.create_publisher(
            PoseStamped,
            "observation/accepted",
            # Kept for a program whose first picture arrives before its subscription is known here.
            QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )
        read, read_compressed = (
            conversions.image_from_message,
            conversions.compressed_image_from_message,
        )
        self._subscribe(Image, IMAGE, lambda message: self._take_image(message, read))
        self._subscribe(
            CompressedImage,
            f"{IMAGE}/compressed",
            lambda message: self._take_image(message, read_compressed),
        )
        self._subscribe(CameraInfo, CAMERA_INFO, self._take_camera_info)
        self._subscribe(PoseStamped, POSE, self._take_pose)

    def match(self) -> None:
        """Hand on the pictures that have a pose, and give up those that waited too long."""
        session = self._session()
        if session is None:
            return
        if session.run != self._run:
            self._run, self._last = session.run, 0
            self._pictures.clear()
        if not len(self._pictures):
            return
        settings, now = self._settings(), time.monotonic()
        self._poses.tolerance = settings.observation_tolerance
        self._pictures.wait = settings.observation_wait
        while True:
            try:
                if self._camera_unknown and self._pictures.waited(now) < self._pictures.wait:
                    return
                found = self._pictures.next(now)
                if found is None:
                    return
                picture, pose = found
                message, read = picture.message
                session.observe(
                    Observation(self._fitted(read, message, session.form), pose, picture.stamp)
                )
            except CommandError as error:
                self._refuse(IMAGE, error)

    def accepted(self, clip: ObservedClip) -> None:
        """Tell that a clip is in the memory: the camera's poses, under the images' stamps."""
        for pose, stamp in zip(clip.poses, clip.stamps, strict=True):
            message = self._pose_message(pose)
            message.header.stamp = conversions.time_message(stamp)
            self._accepted.publish(message)

    @property
    def _camera_unknown(self) -> bool:
        """Whether somebody publishes camera_info, and none came yet."""
        return self._info is None and bool(self._node.count_publishers(CAMERA_INFO))

    # --- Messages ---

    def _take_image(self, message: Any, read: Callable[[Any], np.ndarray]) -> None:
        session = self._session()
        try:
            if session is None or not session.active:
                raise ObservationError(
                    "not active", "the simulator is not active; activate it first"
                )
            self.match()  # first those before it; also notices another world
            stamp = self._checked_stamp(message.header)
            if stamp <= self._last:
                raise ObservationError(
                    "older",
                    f"the image of {stamp / NANOSECONDS:.3f} s is older than the last one, of "
                    f"{self._last / NANOSECONDS:.3f} s",
                )
            rate = self._settings().observation_rate or session.form.fps
            if (stamp - self._last) * rate < (1.0 - JITTER) * NANOSECONDS:
                self._counters.observations_skipped += 1
                return
            frame = message.header.frame_id
            self._pictures.add(Picture(stamp, frame, (message, read), time.monotonic()))
            self._last = stamp
        except CommandError as error:
            self._refuse(IMAGE, error)
        self.match()

    def _take_pose(self, message: PoseStamped) -> None:
        self.match()  # notices another world, which forgets the poses of the one before
        try:
            stamp = self._checked_stamp(message.header)
            command = self._frames.read_pose(message)
            if command.relative:
                raise ObservationError(
                    "relative",
                    f"frame_id {message.header.frame_id!r} is the camera's own; a pose of an "
                    f"observation must be in {self._frames.world!r}",
                )
            self._poses.add(stamp, command.pose)
        except CommandError as error:
            self._refuse(POSE, error)
        self.match()

    def _take_camera_info(self, message: CameraInfo) -> None:
        def calibration(info: CameraInfo) -> tuple:
            return info.height, info.width, info.distortion_model, *info.k, *info.d, *info.p

        if self._info is None or calibration(message) != calibration(self._info):
            self._info, self._fit = message, None
        self.match()

    def _checked_stamp(self, header: Header) -> int:
        stamp = conversions.time_to_nanoseconds(header.stamp)
        now = self._node.get_clock().now().nanoseconds
        if stamp <= 0:
            raise ObservationError("no stamp", "the header has no stamp; observations need one")
        if stamp > now + AHEAD * NANOSECONDS:
            raise ObservationError(
                "future",
                f"the stamp {stamp / NANOSECONDS:.3f} s is "
                f"{(stamp - now) / NANOSECONDS:.3f} s in the future",
            )
        return stamp

    def _fitted(self, read: Callable, message: Any, form: ContextFormat) -> np.ndarray:
        """Return a message's picture as the model's camera sees it."""
        try:
            picture = read(message)
            if self._camera_unknown:
                raise ValueError(f"nothing came on {CAMERA_INFO}, though it has a publisher")
            rectified = self._settings().observation_rectified
            if self._fit is None or self._fit[0] != (form, rectified):
                camera = self._info and observed_camera(self._info, rectified=rectified)
                self._fit = (form, rectified), CameraFit(form, camera)
            return self._fit[1](picture)
        except ValueError as error:
            # The same camera gives the same words: they group its images.
            raise ObservationError(str(error), str(error)) from error

    def _subscribe(self, kind: type, topic: str, receive: Callable[[Any], None]) -> None:
        self._node.create_subscription(
            kind,
            topic,
            receive,
            # Best effort hears both kinds of publishers, as cameras are either.
            QoSProfile(
                history=HistoryPolicy.KEEP_LAST,
                depth=DEPTH,
                reliability=ReliabilityPolicy.BEST_EFFORT,
            ),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )
