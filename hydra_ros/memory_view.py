# SPDX-License-Identifier: Apache-2.0
"""What of the memory is shown for one chunk, as plain arrays and as messages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import Point, Pose
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from hydra_ros.conversions import byte_array
from hydra_ros.msg import Memory, MemoryFrame

FRUSTUM_DEPTH = 0.3  # m
THIN, THICK = 0.006, 0.02  # m, lines of remembered and of selected frames
THUMBNAIL_QUALITY = 80

# Corners of the far plane in units of half width and half height, and the edges of a frustum as
# numbers of its points: 0 is the camera. The last two draw a peak on its upper side.
_CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [0, -1.5]])
_EDGES = np.array(
    [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1], [1, 5], [5, 2]]
).ravel()


@dataclass(frozen=True, kw_only=True)
class MemoryView:
    """The frames selected for a chunk, oldest first, then a sample of the others: n in all.

    ``time`` is that of the chunk's first frame and ``times [n]`` of the remembered ones, simulated
    seconds; ``poses [n, 4, 4]`` and ``camera [4, 4]`` are of the optical frame, ``scores`` [n] by
    term, ``thumbnails`` uint8 [n, h, w, 3] or None. ``aspect`` is width over height.
    """

    chunk: int
    time: float
    camera: np.ndarray
    policy: str
    fov_x: float
    aspect: float
    memory_frames: int
    device_bytes: int
    host_bytes: int
    disk_bytes: int
    selected: int
    indices: np.ndarray
    times: np.ndarray
    poses: np.ndarray
    observed: np.ndarray
    scores: dict[str, np.ndarray]
    total: np.ndarray
    thumbnails: np.ndarray | None


def memory_view(
    state: Any, selection: Any, *, period: float, aspect: float, sample: int, thumbnails: bool
) -> MemoryView:
    """Look at a ``hydra_model`` state as a chunk's ``Selection`` saw it.

    ``period`` is that of the frames in seconds; ``sample`` bounds the frames that were not
    selected, taken evenly from all of the history.
    """
    memory, usage = state.memory, state.memory.usage
    others = np.setdiff1d(np.arange(len(memory)), selection.indices)
    if len(others) > sample:
        others = others[np.linspace(0, len(others) - 1, sample).round().astype(int)]
    indices = np.concatenate([selection.indices, others]).astype(int)
    return MemoryView(
        chunk=state.chunks,
        time=state.time + period,
        camera=state.pose,
        policy=selection.policy,
        fov_x=state.fov_x,
        aspect=aspect,
        memory_frames=len(memory),
        device_bytes=usage.device_bytes,
        host_bytes=usage.host_bytes,
        disk_bytes=usage.disk_bytes,
        selected=len(selection.indices),
        indices=indices,
        times=memory.times[indices],
        poses=memory.poses[indices],
        observed=memory.observed[indices],
        scores={term: values[indices] for term, values in selection.scores.items()},
        total=selection.total[indices],
        thumbnails=memory.thumbnails(indices) if thumbnails else None,
    )


def memory_message(
    view: MemoryView, header: Header, pose_message: Callable[[np.ndarray], Pose]
) -> Memory:
    """Return the message of a view; ``pose_message`` turns optical poses into messages."""
    message = Memory(
        header=header,
        time=view.time,
        chunk=view.chunk,
        policy=view.policy,
        memory_frames=view.memory_frames,
        device_bytes=view.device_bytes,
        host_bytes=view.host_bytes,
        disk_bytes=view.disk_bytes,
        fov_x=view.fov_x,
        aspect=view.aspect,
    )
    terms = list(view.scores)
    for i, index in enumerate(view.indices):
        frame = MemoryFrame(
            index=int(index),
            time=float(view.times[i]),
            age=float(view.time - view.times[i]),
            pose=pose_message(view.poses[i]),
            origin=MemoryFrame.OBSERVED if view.observed[i] else MemoryFrame.IMAGINED,
            selected=i < view.selected,
            terms=terms,
            term_scores=[float(view.scores[term][i]) for term in terms],
            score=float(view.total[i]),
        )
        if view.thumbnails is not None and view.thumbnails[i].size:
            frame.thumbnail = byte_array(_jpeg(view.thumbnails[i]))
        message.frames.append(frame)
    return message


def memory_markers(view: MemoryView, header: Header) -> MarkerArray:
    """Return three markers: remembered frusta, the selected ones, and the camera.

    Each is one list of lines under an id of its own, so that the next chunk's replace them and
    nothing old stays. Remembered frusta go from blue (irrelevant) over green to yellow.
    """
    colours = _colours(view.total)
    lines = [
        ("remembered", slice(view.selected, None), THIN, 0.5),
        ("selected", slice(0, view.selected), THICK, 1.0),
    ]
    markers = []
    for number, (name, frames, width, alpha) in enumerate(lines):
        points = _frusta(view.poses[frames], view.fov_x, view.aspect)
        repeated = np.repeat(colours[frames], len(_EDGES), axis=0)
        markers.append(_lines(name, number, header, points, repeated, width, alpha))
    points = _frusta(view.camera[None], view.fov_x, view.aspect)
    white = np.ones((len(points), 3))
    markers.append(_lines("camera", len(lines), header, points, white, THICK, 1.0))
    return MarkerArray(markers=markers)


def no_markers(header: Header) -> MarkerArray:
    """Return what removes all markers: those of another world."""
    return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])


def _frusta(poses: np.ndarray, fov_x: float, aspect: float) -> np.ndarray:
    """Return the ends of all edges, [n * edges * 2, 3] in the world."""
    half = math.tan(fov_x / 2) * FRUSTUM_DEPTH
    corners = np.zeros((len(_CORNERS) + 1, 3))
    corners[1:, :2] = _CORNERS * [half, half / aspect]
    corners[1:, 2] = FRUSTUM_DEPTH
    points = corners[_EDGES] @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    return points.reshape(-1, 3)


def _colours(scores: np.ndarray) -> np.ndarray:
    """Return RGB [n, 3], 0 to 1, of relevance relative to the highest."""
    highest = float(np.max(scores, initial=0.0)) or 1.0
    levels = np.clip(255 * scores / highest, 0, 255).astype(np.uint8)
    bgr = cv2.applyColorMap(levels.reshape(-1, 1), cv2.COLORMAP_VIRIDIS) if len(levels) else levels
    return bgr.reshape(-1, 3)[:, ::-1] / 255.0


def _lines(
    name: str,
    number: int,
    header: Header,
    points: np.ndarray,
    colours: np.ndarray,
    width: float,
    alpha: float,
) -> Marker:
    marker = Marker(header=header, ns=name, id=number, type=Marker.LINE_LIST)
    # A marker without points is an error in RViz.
    marker.action = Marker.ADD if len(points) else Marker.DELETE
    marker.pose.orientation.w = 1.0
    marker.scale.x = width
    marker.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=alpha)
    marker.points = [Point(x=x, y=y, z=z) for x, y, z in points.tolist()]
    marker.colors = [ColorRGBA(r=r, g=g, b=b, a=alpha) for r, g, b in colours.tolist()]
    return marker


def _jpeg(picture: np.ndarray) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, THUMBNAIL_QUALITY]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), options)
    return data.tobytes()
