# SPDX-License-Identifier: Apache-2.0
"""Camera paths for imagined futures: a velocity, driven for some seconds."""

from __future__ import annotations

import math

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from std_msgs.msg import Header
from transforms3d.axangles import axangle2mat

from hydra_ros.conversions import pose_to_message, time_message
from hydra_ros.web.protocol import Velocity

STEP = 0.1  # s between poses; the simulator resamples them to its frame rate


def driven_poses(velocity: Velocity, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Return times [N] from 0 and the body's poses [N, 4, 4] relative to where it starts."""
    count = max(math.ceil(seconds / STEP - 1e-9), 1)
    times = np.linspace(0.0, seconds, count + 1)
    step = np.eye(4)
    duration = seconds / count
    angle = float(np.linalg.norm(velocity.angular)) * duration
    # Halfway through the turn, so that the way is the arc and not its outside.
    halfway = _rotation(velocity, angle / 2)
    step[:3, :3] = _rotation(velocity, angle)
    step[:3, 3] = halfway @ np.array(velocity.linear) * duration
    poses = [np.eye(4)]
    for _ in range(count):
        poses.append(poses[-1] @ step)
    return times, np.stack(poses)


def relative_path(velocity: Velocity, seconds: float, body_frame: str) -> Path:
    """Return the path message of a drive, relative to the camera, with increasing stamps."""
    path = Path(header=Header(frame_id=body_frame))
    # From one step on: the start is where the camera is already.
    for time, pose in zip(*driven_poses(velocity, seconds), strict=True):
        stamp = time_message(round((time + STEP) * 1e9))
        header = Header(stamp=stamp, frame_id=body_frame)
        path.poses.append(PoseStamped(header=header, pose=pose_to_message(pose)))
    return path


def _rotation(velocity: Velocity, angle: float) -> np.ndarray:
    return axangle2mat(velocity.angular, angle) if angle else np.eye(3)
