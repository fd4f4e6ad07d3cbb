# SPDX-License-Identifier: Apache-2.0
"""A recording of a simulator -> the numbers that a figure of it shows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hydra_ros.conversions import NANOSECONDS, pose_from_message
from hydra_ros.recording.bag import Bag, BagError
from hydra_ros.recording.pictures import IMAGE_TYPES, read_frames

POSE = "geometry_msgs/msg/PoseStamped"
MEMORY = "hydra_ros/msg/Memory"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
IMAGE_TOPICS = ("camera/image_raw", "camera/image_raw/compressed")


@dataclass(frozen=True)
class Remembered:
    """What one chunk remembered: ``selected`` latent frames with scores, of ``size`` in memory."""

    time: float  # s since the first frame
    chunk: int
    size: int
    selected: np.ndarray  # [N] numbers of latent frames
    scores: np.ndarray  # [N]


@dataclass(frozen=True, kw_only=True)
class Story:
    """A recording in numbers; times in seconds since the first frame.

    ``poses`` are as recorded, [N, 4, 4] in the world, at ``times`` [N]. ``thumbnails`` are
    pairs of the number of a pose and a frame. ``diagnostics`` is [N, 3]: time of recording,
    real-time factor (not a number where unknown) and latency in seconds.
    """

    namespace: str
    times: np.ndarray
    poses: np.ndarray
    thumbnails: list[tuple[int, np.ndarray]] = field(default_factory=list)
    diagnostics: np.ndarray
    memory: list[Remembered] = field(default_factory=list)


def read_story(bag: Bag, namespace: str | None = None, thumbnails: int = 8) -> Story:
    """Return the story of the simulator of a namespace, or of the only one in the recording.

    Raises:
        BagError: there is none, or several and none is named.
    """
    namespace = _namespace(bag) if namespace is None else "/" + namespace.strip("/")
    root = namespace.rstrip("/")
    stamped = list(bag.messages(f"{root}/camera/pose", (POSE,)))
    if not stamped:
        raise BagError(f"{bag.path} has no frames: {root}/camera/pose has no messages")
    seconds = np.array([_seconds(message.header.stamp) for _, message in stamped])
    start = seconds[0]
    # Stamps may be simulated time: what was recorded when ties them to the clock.
    recorded_start = stamped[0][0] / NANOSECONDS
    return Story(
        namespace=namespace,
        times=seconds - start,
        poses=np.stack([pose_from_message(message.pose) for _, message in stamped]),
        thumbnails=_thumbnails(bag, root, seconds, thumbnails),
        diagnostics=_diagnostics(bag, root, recorded_start),
        memory=_memory(bag, root, start),
    )


def _namespace(bag: Bag) -> str:
    ending = "/camera/pose"
    names = [topic.removesuffix(ending) for topic in bag.of_type(POSE) if topic.endswith(ending)]
    if not names:
        listed = ", ".join(sorted(bag.topics)) or "none"
        raise BagError(f"{bag.path} is no recording of a simulator; its topics: {listed}")
    if len(names) > 1:
        raise BagError(f"{bag.path} has several simulators; give --namespace: {', '.join(names)}")
    return names[0] or "/"


def _thumbnails(
    bag: Bag, root: str, seconds: np.ndarray, count: int
) -> list[tuple[int, np.ndarray]]:
    topic = next((f"{root}/{name}" for name in IMAGE_TOPICS if f"{root}/{name}" in bag.topics), "")
    if bag.topics.get(topic) not in IMAGE_TYPES:
        return []
    wanted = np.unique(np.linspace(0, len(seconds) - 1, count).round().astype(int))
    moments = {float(seconds[index]): int(index) for index in wanted}
    found = {}
    for time, frame in read_frames(bag, topic):
        index = moments.get(time)  # one frame, one stamp
        if index is not None:
            found[index] = frame
    return sorted(found.items(), key=lambda pair: pair[0])


def _diagnostics(bag: Bag, root: str, start: float) -> np.ndarray:
    rows = []
    name = f"{root}/hydra_simulator: simulator"
    if bag.topics.get("/diagnostics") != DIAGNOSTICS:
        return np.zeros((0, 3))
    for stamp, message in bag.messages("/diagnostics", (DIAGNOSTICS,)):
        for status in message.status:
            if status.name == name:
                values = {pair.key: pair.value for pair in status.values}
                factor = _number(values.get("real_time_factor"))
                rows.append((stamp / NANOSECONDS - start, factor, _number(values.get("latency_s"))))
    rows = [row for row in rows if row[0] >= 0]  # before the first frame nothing is fast or slow
    return np.array(rows).reshape(-1, 3)


def _memory(bag: Bag, root: str, start: float) -> list[Remembered]:
    remembered = []
    for topic in bag.of_type(MEMORY):
        if not topic.startswith(f"{root}/"):
            continue
        for _, message in bag.messages(topic, (MEMORY,)):
            selected = [entry for entry in message.frames if entry.selected]
            remembered.append(
                Remembered(
                    time=_seconds(message.header.stamp) - start,
                    chunk=int(message.chunk),
                    size=int(message.memory_frames),
                    selected=np.array([entry.index for entry in selected], dtype=int),
                    scores=np.array([entry.score for entry in selected], dtype=float),
                )
            )
    return remembered


def _number(text: str | None) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):  # "unknown"
        return float("nan")


def _seconds(stamp) -> float:
    return stamp.sec + stamp.nanosec / NANOSECONDS
