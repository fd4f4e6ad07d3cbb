# SPDX-License-Identifier: Apache-2.0
"""Camera trajectories at frame times: interpolation, timed waypoints, integrated velocities.

Pure functions of numpy arrays. Poses are 4x4 float64 matrices of the optical frame in the
world, metres; frame i of a result is the pose i + 1 frame periods after "now".
"""

from __future__ import annotations

import math

import numpy as np
from transforms3d.quaternions import mat2quat, quat2mat

from hydra_model.chunks import chunk_lengths

__all__ = [
    "approach", "chunk_lengths", "drive", "frame_count", "interpolate", "limited", "motion",
    "orthonormal", "resample", "rotation_about", "rotation_between", "slerp", "travel_time",
]  # fmt: skip

# A waypoint this near to a frame time, in frame periods, is that frame's pose as it stands.
SNAP = 0.05


def slerp(start: np.ndarray, goal: np.ndarray, fraction: float) -> np.ndarray:
    """Return the pose [4, 4] at ``fraction`` (0 to 1): slerp of rotation, linear in position."""
    if fraction <= 0.0:
        return start.copy()
    if fraction >= 1.0:
        return goal.copy()
    axis, angle = rotation_between(start, goal)
    pose = np.eye(4)
    pose[:3, :3] = start[:3, :3] @ rotation_about(axis, angle * fraction)
    pose[:3, 3] = (1.0 - fraction) * start[:3, 3] + fraction * goal[:3, 3]
    return pose


def rotation_between(start: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, float]:
    """Return axis [3] and angle (0 to pi) of the rotation from ``start`` to ``goal``."""
    w, *xyz = mat2quat(start[:3, :3].T @ goal[:3, :3])
    sine = math.sqrt(sum(value * value for value in xyz))
    if sine < 1e-12:
        return np.array([1.0, 0.0, 0.0]), 0.0
    # mat2quat returns w >= 0, so this is the shorter way round.
    return np.array(xyz) / sine, 2.0 * math.atan2(sine, w)


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the rotation matrix [3, 3] by ``angle`` radians about a unit ``axis`` [3]."""
    half = 0.5 * angle
    return quat2mat([math.cos(half), *(math.sin(half) * axis)])


def travel_time(
    start: np.ndarray, goal: np.ndarray, linear_speed: float, angular_speed: float
) -> float:
    """Return the seconds from ``start`` to ``goal`` at most at these speeds (m/s, rad/s)."""
    distance = float(np.linalg.norm(goal[:3, 3] - start[:3, 3]))
    _, angle = rotation_between(start, goal)
    return max(distance / linear_speed, angle / angular_speed)


def approach(
    start: np.ndarray,
    goal: np.ndarray,
    count: int,
    period: float,
    linear_speed: float,
    angular_speed: float,
) -> np.ndarray:
    """Return ``count`` poses [count, 4, 4] from ``start`` towards ``goal``.

    The goal is reached with the last frame at a constant speed, or later where the speed
    limits (m/s, rad/s) need longer.
    """
    duration = max(count * period, travel_time(start, goal, linear_speed, angular_speed))
    return np.stack([slerp(start, goal, (i + 1) * period / duration) for i in range(count)])


def interpolate(poses: np.ndarray, times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the poses [N, 4, 4] at ``wanted`` [N] of those [M, 4, 4] at increasing ``times`` [M].

    Before the first and after the last, it is the first and the last.
    """
    if len(times) == 1:
        return np.repeat(poses, len(wanted), axis=0)
    found = []
    for time in wanted:
        after = int(np.clip(np.searchsorted(times, time), 1, len(times) - 1))
        fraction = (time - times[after - 1]) / (times[after] - times[after - 1])
        found.append(slerp(poses[after - 1], poses[after], fraction))
    return np.stack(found)


def frame_count(duration: float, period: float) -> int:
    """Return how many frames a timed path of ``duration`` seconds takes, its ends included."""
    return max(math.ceil(duration / period - SNAP), 0) + 1


def resample(waypoints: np.ndarray, times: np.ndarray, period: float) -> np.ndarray:
    """Return the poses [N, 4, 4] at frame times of waypoints [M, 4, 4] at ``times`` [M] seconds.

    The first waypoint is frame 0. The last frame is the last waypoint, at its time or, where
    that falls between two frames, at the later one. A waypoint within a twentieth of a frame
    period of a frame is taken as it stands, so stamps rounded to milliseconds stay exact.
    """
    positions = (times - times[0]) / period
    poses = []
    for frame in range(frame_count(float(times[-1] - times[0]), period)):
        nearest = int(np.argmin(np.abs(positions - frame)))
        after = int(np.searchsorted(positions, frame))
        if abs(positions[nearest] - frame) <= SNAP or after >= len(positions):
            poses.append(waypoints[nearest])
        else:
            span = positions[after] - positions[after - 1]
            fraction = (frame - positions[after - 1]) / span
            poses.append(slerp(waypoints[after - 1], waypoints[after], fraction))
    return np.stack(poses)


def motion(linear: np.ndarray, angular: np.ndarray, seconds: float) -> np.ndarray:
    """Return the motion [4, 4] of a constant twist: m/s and rad/s in the moving frame's axes."""
    angle = float(np.linalg.norm(angular)) * seconds
    result = np.eye(4)
    travelled = linear * seconds
    if angle < 1e-9:
        result[:3, 3] = travelled
        return result
    axis = angular / np.linalg.norm(angular)
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    # Exponential map of SE(3): rotation, and the mean rotation along the way for the position.
    mean = (
        np.eye(3)
        + (1.0 - math.cos(angle)) / angle * cross
        + (angle - math.sin(angle)) / angle * cross @ cross
    )
    result[:3, :3] = rotation_about(axis, angle)
    result[:3, 3] = mean @ travelled
    return result


def drive(
    start: np.ndarray, linear: np.ndarray, angular: np.ndarray, count: int, period: float
) -> np.ndarray:
    """Return ``count`` poses [count, 4, 4] driven from ``start`` at a constant twist.

    ``linear`` [3] m/s and ``angular`` [3] rad/s are in the axes of the moving frame itself.
    """
    step = motion(linear, angular, period)
    poses = []
    pose = start
    for _ in range(count):
        pose = orthonormal(pose @ step)
        poses.append(pose)
    return np.stack(poses)


def orthonormal(pose: np.ndarray) -> np.ndarray:
    """Return the pose with its rotation made exactly orthonormal, against drift of products."""
    result = pose.copy()
    result[:3, :3] = quat2mat(mat2quat(pose[:3, :3]))
    return result


def limited(vector: np.ndarray, longest: float) -> np.ndarray:
    """Return the vector, shortened to the length ``longest`` where it is longer."""
    length = float(np.linalg.norm(vector))
    return vector if length <= longest else vector * (longest / length)
