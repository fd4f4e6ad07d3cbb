# SPDX-License-Identifier: Apache-2.0
"""Camera poses: their geometry, and the files that hold them."""

from hydra_model.cameras.files import CameraTrack, load_cameras
from hydra_model.cameras.geometry import (
    camera_vectors,
    check_poses,
    intrinsics,
    latent_poses,
    relative_poses,
    unreal_to_optical,
    vectors_to_poses,
)

__all__ = [
    "CameraTrack",
    "camera_vectors",
    "check_poses",
    "intrinsics",
    "latent_poses",
    "load_cameras",
    "relative_poses",
    "unreal_to_optical",
    "vectors_to_poses",
]
