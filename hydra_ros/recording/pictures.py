# SPDX-License-Identifier: Apache-2.0
"""Camera topics of a bag -> frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from hydra_ros.conversions import NANOSECONDS
from hydra_ros.recording.bag import Bag, BagError

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

# Channels, and OpenCV's conversion to RGB.
_ENCODINGS = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
}


def read_frames(bag: Bag, topic: str) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the time in seconds and the frame, uint8 [H, W, 3] RGB, of each image of a topic.

    Times are the headers', or the recording's where those are not set.

    Raises:
        BagError: the topic is missing or no camera's, or an image cannot be decoded.
    """
    for stamp, message in bag.messages(topic, IMAGE_TYPES):
        header = message.header.stamp
        time = header.sec + header.nanosec / NANOSECONDS or stamp / NANOSECONDS
        try:
            yield time, frame_of(message)
        except ValueError as error:
            raise BagError(f"topic {topic!r} in {bag.path}: {error}") from None


def frame_of(message: Any) -> np.ndarray:
    """Return the frame, uint8 [H, W, 3] RGB, of an Image or CompressedImage.

    Raises:
        ValueError: an unknown encoding, or data that does not fit it.
    """
    data = np.frombuffer(memoryview(message.data), np.uint8)
    if not hasattr(message, "encoding"):
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
        if picture is None:
            raise ValueError(f"an image of format {message.format!r} cannot be decoded")
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    if message.encoding not in _ENCODINGS:
        raise ValueError(
            f"image encoding is {message.encoding!r}; accepted: {', '.join(_ENCODINGS)}"
        )
    channels, conversion = _ENCODINGS[message.encoding]
    height, width, step = message.height, message.width, message.step
    if step < channels * width or len(data) < step * height:
        raise ValueError(f"an image of {width}x{height} {message.encoding} has {len(data)} bytes")
    rows = data[: step * height].reshape(height, step)[:, : channels * width]
    picture = np.ascontiguousarray(rows).reshape(height, width, channels)
    return picture if conversion is None else cv2.cvtColor(picture, conversion)
