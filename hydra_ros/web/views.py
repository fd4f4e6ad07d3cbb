# SPDX-License-Identifier: Apache-2.0
"""ROS messages -> what the page shows, as plain JSON objects and JPEGs.

Cameras are ``{"position": [x, y, z], "forward": [x, y, z]}`` in the world frame (metres, z up).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Pose

from hydra_ros.conversions import body_to_optical, pose_from_message, time_to_nanoseconds
from hydra_ros.msg import ImaginedFuture, Memory, StateInfo

NOT_SHOWN = -1


def camera_view(message: Pose, convention: str) -> dict[str, list[float]] | None:
    """Return where a camera is and looks; None for a pose that is none.

    ``convention`` says what the pose is of: "body" (x forward) or "optical" (z forward).
    """
    try:
        pose = pose_from_message(message)
    except ValueError:
        return None
    optical = body_to_optical(pose) if convention == "body" else pose
    return {"position": _rounded(optical[:3, 3]), "forward": _rounded(optical[:3, 2])}


def diagnostics_view(message: DiagnosticArray, name: str) -> dict[str, Any] | None:
    """Return the status of that name: level, line and values; None where it is not in there."""
    for status in message.status:
        if status.name == name:
            return {
                "level": int.from_bytes(status.level, "little"),
                "message": status.message,
                "model": status.hardware_id,
                "values": {pair.key: pair.value for pair in status.values},
            }
    return None


def figures_view(values: dict[str, str], wall: float) -> dict[str, float | None]:
    """Return the figures over time from a status' values; ``wall`` is seconds since 1970."""
    names = ("real_time_factor", "latency_s", "chunk_s")
    return {"wall": wall, **{name: _number(values.get(name)) for name in names}}


def memory_view(message: Memory, convention: str) -> tuple[dict[str, Any], list[bytes]]:
    """Return a memory message, and the thumbnails of the selected frames.

    A frame's ``thumbnail`` is its place in that list.
    """
    thumbnails: list[bytes] = []
    frames = []
    for frame in message.frames:
        camera = camera_view(frame.pose, convention)
        if camera is None:
            continue
        thumbnail = NOT_SHOWN
        if frame.selected and len(frame.thumbnail):
            thumbnail = len(thumbnails)
            thumbnails.append(bytes(frame.thumbnail))
        frames.append(
            {
                "index": frame.index,
                "time": _finite(frame.time),
                "age": _finite(frame.age),
                "camera": camera,
                "observed": frame.origin == frame.OBSERVED,
                "selected": frame.selected,
                "terms": {
                    term: _finite(score)
                    for term, score in zip(frame.terms, frame.term_scores, strict=False)
                },
                "score": _finite(frame.score),
                "thumbnail": thumbnail,
            }
        )
    view = {
        "time": _finite(message.time),
        "chunk": message.chunk,
        "policy": message.policy,
        "memory_frames": message.memory_frames,
        "device_bytes": message.device_bytes,
        "host_bytes": message.host_bytes,
        "disk_bytes": message.disk_bytes,
        "fov_x": _finite(message.fov_x),
        "aspect": _finite(message.aspect),
        "frames": frames,
    }
    return view, thumbnails


def state_view(message: StateInfo, convention: str) -> dict[str, Any]:
    """Return a named state."""
    return {
        "name": message.name,
        "time": _finite(message.time),
        "memory_frames": message.memory_frames,
        "memory_bytes": message.memory_bytes,
        "camera": camera_view(message.pose.pose, convention),
        "model": message.model,
        "world": message.world,
        "saved_at": time_to_nanoseconds(message.saved_at) / 1e9,
        "persistent": message.persistent,
    }


def futures_view(
    messages: Sequence[ImaginedFuture], convention: str
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return imagined futures and all their frames; a future names where its own begin."""
    images: list[bytes] = []
    futures = []
    for message in sorted(messages, key=lambda future: (future.candidate, future.sample)):
        cameras = (camera_view(pose.pose, convention) for pose in message.poses)
        futures.append(
            {
                "id": message.id,
                "candidate": message.candidate,
                "sample": message.sample,
                "first": len(images),
                "count": len(message.compressed),
                "cameras": [camera for camera in cameras if camera],
            }
        )
        images.extend(bytes(image.data) for image in message.compressed)
    return futures, images


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def _number(text: str | None) -> float | None:
    try:
        return _finite(float(text or ""))
    except ValueError:
        return None
