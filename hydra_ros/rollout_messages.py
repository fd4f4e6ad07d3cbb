# SPDX-License-Identifier: Apache-2.0
"""Imagined futures -> messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from hydra_ros import conversions
from hydra_ros.msg import ImaginedFuture


@dataclass(frozen=True, kw_only=True)
class FutureFormat:
    """How futures are put into messages.

    ``start`` is the simulated time in seconds of the state they start from: stamps are
    simulated time. ``fov_x`` in radians is the camera's horizontal field of view. ``optical``
    says that poses are given of the optical frame, not the body.
    """

    encoding: str
    jpeg_quality: int
    start: float
    fps: float
    fov_x: float
    world_frame: str
    optical_frame: str
    optical: bool

    def message(
        self,
        *,
        id: str,
        candidate: int,
        sample: int,
        seed: int,
        indices: Sequence[int],
        poses: np.ndarray,
        frames: np.ndarray,
    ) -> ImaginedFuture:
        """Return a message of frames uint8 [n, H, W, 3] at optical poses [n, 4, 4]."""
        message = ImaginedFuture(id=id, candidate=candidate, sample=sample, seed=seed)
        message.indices = [int(index) for index in indices]
        for index, pose, frame in zip(indices, poses, frames, strict=True):
            seconds = self.start + (int(index) + 1) / self.fps
            stamp = conversions.time_message(max(round(seconds * conversions.NANOSECONDS), 0))
            shown = pose if self.optical else conversions.optical_to_body(pose)
            message.poses.append(
                conversions.pose_stamped_message(
                    shown, Header(stamp=stamp, frame_id=self.world_frame)
                )
            )
            header = Header(stamp=stamp, frame_id=self.optical_frame)
            if not message.camera_info.width:
                message.camera_info = conversions.camera_info_message(
                    *frame.shape[:2], self.fov_x, header
                )
            if self.encoding == "rgb8":
                message.images.append(conversions.image_message(frame, header))
            elif self.encoding == "png":
                message.compressed.append(png_message(frame, header))
            else:
                message.compressed.append(
                    conversions.compressed_image_message(frame, header, self.jpeg_quality)
                )
        return message


def png_message(frame: np.ndarray, header: Header) -> CompressedImage:
    """Return a PNG message of a frame, uint8 [H, W, 3] RGB."""
    _, png = cv2.imencode(".png", np.ascontiguousarray(frame[..., ::-1]))
    message = CompressedImage(header=header, format="rgb8; png compressed bgr8")
    message.data = conversions.byte_array(png.tobytes())
    return message


def size_of(futures: Sequence[ImaginedFuture]) -> int:
    """Return the bytes of all pictures in the messages."""
    return sum(
        len(image.data) for future in futures for image in (*future.images, *future.compressed)
    )


def frames_from_message(message: ImaginedFuture) -> np.ndarray:
    """Return the frames uint8 [n, H, W, 3] RGB of a message.

    Raises:
        ValueError: a picture cannot be decoded.
    """
    frames = [conversions.image_from_message(image) for image in message.images]
    for picture in message.compressed:
        data = np.frombuffer(picture.data, np.uint8)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if decoded is None:
            raise ValueError(f"a picture of format {picture.format!r} cannot be decoded")
        frames.append(decoded[..., ::-1])
    return np.stack(frames) if frames else np.zeros((0, 0, 0, 3), np.uint8)
