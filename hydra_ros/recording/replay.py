# SPDX-License-Identifier: Apache-2.0
"""Poses of a bag -> a simulator in lockstep -> frames in a bag and a video beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from hydra_model.video import write_video
from hydra_ros.conversions import image_from_message
from hydra_ros.demo.node_process import NodeError
from hydra_ros.discovery import Discovery
from hydra_ros.recording.link import SIMULATOR, SimulatorLink
from hydra_ros.recording.recorder import Recorder
from hydra_ros.recording.tracks import Track
from hydra_ros.recording.writer import BagWriter

# Poses commanded at once; fewer than the simulator's max_pending_frames.
SEGMENT = 308
RESTORED_IN = 2.0  # seconds that a simulator may take to be as it was, after something failed

RECORDED = ("path_cmd", "camera/image_raw", "camera/camera_info", "camera/pose", "/diagnostics")


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What to replay, and where to write it; see ``hydra-ros replay --help``."""

    track: Track
    fps: float
    source: str
    seed: int
    prompt: str
    as_they_stand: bool  # poses are of the simulator's world, not a motion from its start
    bag: Path
    video: Path
    frame_timeout: float
    own_simulator: bool  # started for this: its namespace means nothing to others


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """Frames written, and in which world."""

    frames: int
    world: str


def replay(
    options: Replay, link: SimulatorLink, progress: Callable[[str, int, int], None]
) -> Replayed:
    """Reset the simulator, command the poses, write what it shows.

    ``progress`` gets what is done, and of how many frames how many came.

    Raises:
        NodeError: the simulator is not in lockstep, or refuses.
        TimeoutError: frames stopped coming.
    """
    settings = link.parameters(["mode", "playback_speed", "max_pending_frames"])
    if settings["mode"] != "lockstep":
        raise NodeError("the simulator runs in realtime; a replay needs mode lockstep")
    frames: list[np.ndarray] = []
    link.node.create_subscription(
        Image,
        "camera/image_raw",
        lambda message: frames.append(image_from_message(message)),
        QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE),
    )
    with BagWriter(options.bag) as writer:
        link.set_parameter("playback_speed", 0.0)  # as fast as frames come
        try:
            progress("Starting the world", 0, 0)
            start, world = link.reset(options.source, options.seed, options.prompt)
            recorder = Recorder(link.node, writer, RECORDED, as_in_root=options.own_simulator)
            link.wait(lambda: _found(link, recorder), "the camera's topics were not found")
            discovery = Discovery(link.node, SIMULATOR)
            link.wait(lambda: discovery.done, "the simulator did not find the recorder")
            track = options.track
            if not options.as_they_stand:
                track = Track(times=track.times, poses=track.moved_to(start))
            poses = track.at_frames(options.fps)
            frames.clear()  # of the world before
            segment = min(SEGMENT, settings["max_pending_frames"])
            for first in range(0, len(poses), segment):
                part = poses[first : first + segment]
                link.send_path(part)
                wanted = first + len(part)
                while len(frames) < wanted:
                    have = len(frames)
                    link.wait(
                        lambda have=have: len(frames) > have,
                        f"{have} of {len(poses)} frames came and then none",
                        options.frame_timeout,
                    )
                    progress("Frames received", len(frames), len(poses))
            link.wait(lambda: _recorded(writer) >= len(poses), "frames were not recorded")
        except BaseException:
            # What happened is what counts; the simulator may be gone with it.
            with contextlib.suppress(NodeError, TimeoutError):
                link.set_parameter("playback_speed", settings["playback_speed"], RESTORED_IN)
            raise
        link.set_parameter("playback_speed", settings["playback_speed"])
    progress("Writing the video", 0, 0)
    write_video(options.video, np.stack(frames), options.fps)
    return Replayed(frames=len(frames), world=world)


def _recorded(writer: BagWriter) -> int:
    counts = writer.counts
    ends = ("camera/image_raw", "camera/camera_info", "camera/pose")
    return min(
        max((counts[topic] for topic in counts if topic.endswith(end)), default=0) for end in ends
    )


def _found(link: SimulatorLink, recorder: Recorder) -> bool:
    recorder.look()
    node = link.node
    wanted = {node.resolve_topic_name(topic) for topic in RECORDED if topic.startswith("camera")}
    return wanted <= set(recorder.topics) and all(map(node.count_publishers, wanted))
