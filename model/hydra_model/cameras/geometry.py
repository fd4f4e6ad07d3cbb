# SPDX-License-Identifier: Apache-2.0
"""Camera geometry: poses, frames of reference and the 12-vectors that the model reads.

A pose is the camera-to-world matrix of an optical frame (REP-103: z forward, x right, y
down), 4x4 float64, metres, in a right-handed world with z up.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# How far rotation columns may be from orthonormal: files hold float32 and rounded decimals.
ROTATION_TOLERANCE = 1e-3

# Axes of an optical frame that looks along a z-up world's x axis, as columns.
OPTICAL_TO_WORLD_AXES = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def intrinsics(width: int, height: int, fov_x: float) -> Array:
    """Return the 3x3 pinhole matrix of square pixels; pixel centres have integer coordinates.

    ``fov_x`` is the horizontal field of view in radians; the focal length is
    (width/2)/tan(fov_x/2) pixels and the principal point the middle of the image.
    """
    if width < 1 or height < 1:
        raise ValueError(f"image of {width}x{height} pixels; width and height must be at least 1")
    if not 0.0 < fov_x < math.pi:
        raise ValueError(f"fov_x is {fov_x} radians; it must lie between 0 and pi")
    focal = (width / 2) / math.tan(fov_x / 2)
    return np.array(
        [[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]]
    )


def check_poses(poses: npt.ArrayLike, name: str = "poses") -> Array:
    """Return ``poses`` as float64 [N, 4, 4], or raise ``ValueError`` naming the first bad one.

    Accepted are finite matrices with a bottom row of (0, 0, 0, 1) and a right-handed rotation,
    orthonormal to within ``ROTATION_TOLERANCE``.
    """
    try:
        values = np.asarray(poses, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} are not numbers; accepted: [N, 4, 4]") from error
    if values.ndim != 3 or values.shape[1:] != (4, 4) or len(values) == 0:
        raise ValueError(f"{name} have shape {values.shape}; accepted: [N, 4, 4], N at least 1")
    rotations = values[:, :3, :3]
    with np.errstate(invalid="ignore", over="ignore"):
        products = rotations.transpose(0, 2, 1) @ rotations
        off_orthonormal = np.abs(products - np.eye(3)).max(axis=(1, 2)) > ROTATION_TOLERANCE
        problems = (
            (~np.isfinite(values).all(axis=(1, 2)), "holds a number that is not finite"),
            (np.abs(values[:, 3] - (0, 0, 0, 1)).max(axis=1) > 1e-6, "must end in row 0 0 0 1"),
            (off_orthonormal, "has a rotation that is not orthonormal"),
            (np.linalg.det(rotations) < 0, "has a left-handed rotation (determinant -1)"),
        )
    for bad, problem in problems:
        if bad.any():
            raise ValueError(f"{name}[{int(bad.argmax())}] {problem}")
    return values


def relative_poses(poses: npt.ArrayLike, reference: npt.ArrayLike) -> Array:
    """Return inverse(reference) * poses, [N, 4, 4]: the poses seen from ``reference`` [4, 4]."""
    # The general inverse, not the transposed rotation: far from the origin the rounding of
    # rotations read from files would turn into a translation.
    inverse = np.linalg.inv(np.asarray(reference, dtype=np.float64))
    return inverse @ np.asarray(poses, dtype=np.float64)


def camera_vectors(poses: npt.ArrayLike, reference: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return float32 [N, 12]: each pose relative to ``reference``, rows [R | t] flattened."""
    relative = relative_poses(poses, reference)
    return relative[:, :3, :].reshape(-1, 12).astype(np.float32)


def latent_poses(poses: npt.ArrayLike, stride: int = 4) -> Array:
    """Return the poses [k, 4, 4] of latent frames: frames 0, stride, 2*stride, ... of ``poses``.

    ``poses`` is [T, 4, 4] with T = 1 + stride*(k-1).
    """
    values = np.asarray(poses, dtype=np.float64)
    if len(values) < 1 or (len(values) - 1) % stride:
        raise ValueError(f"{len(values)} poses; accepted: 1 + {stride}*n, n = 0, 1, ...")
    return values[::stride]


def unreal_to_optical(matrices: npt.ArrayLike) -> Array:
    """Turn Unreal camera-to-world matrices [..., 4, 4] into poses.

    Unreal's axes are X forward, Y right, Z up, left-handed, in centimetres, for the camera and
    for the world. The world's Y axis is mirrored to make it right-handed with z up; relative
    poses do not feel that.
    """
    matrices = np.asarray(matrices, dtype=np.float64)
    poses = matrices[..., :, [1, 2, 0, 3]]  # columns right, up, forward, position
    poses[..., :, 1] *= -1.0  # up -> down
    poses[..., :3, 3] /= 100.0
    poses[..., 1, :] *= -1.0
    return poses


def vectors_to_poses(vectors: npt.ArrayLike) -> Array:
    """Turn 12-vectors [N, 12] relative to a reference camera into poses [N, 4, 4].

    The reference camera is put at the world's origin, looking along x, so that z is up as far
    as that camera was level.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    poses = np.tile(np.eye(4), (len(vectors), 1, 1))
    poses[:, :3, :] = vectors.reshape(-1, 3, 4)
    return OPTICAL_TO_WORLD_AXES @ poses
