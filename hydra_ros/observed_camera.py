# SPDX-License-Identifier: Apache-2.0
"""A real camera's pictures -> what the model's own pinhole camera would have seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo

from hydra_model.video import fit_frames
from hydra_ros.starting_world import ContextFormat, check_size

# Distortion models of OpenCV's own pinhole functions; "" and "none" are used where there is none.
DISTORTIONS = ("", "none", "plumb_bob", "rational_polynomial")
SLACK = 0.02  # part of the picture that may be missing at its edges, and is then repeated


@dataclass(frozen=True)
class ObservedCamera:
    """A pinhole camera: size in pixels, matrix [3, 3] in pixels, distortion coefficients."""

    height: int
    width: int
    matrix: np.ndarray
    distortion: np.ndarray

    @property
    def fov_x(self) -> float:
        """Horizontal field of view in radians, of the undistorted picture."""
        return 2 * math.atan(self.width / 2 / self.matrix[0, 0])


def observed_camera(info: CameraInfo, *, rectified: bool) -> ObservedCamera:
    """Return the camera of a message; of its rectified image where ``rectified``.

    Raises:
        ValueError: it is not calibrated, or no pinhole camera.
    """
    matrix = np.array(info.p).reshape(3, 4)[:, :3] if rectified else np.array(info.k).reshape(3, 3)
    if not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise ValueError("camera_info is not calibrated: its focal lengths are not positive")
    distortion = np.zeros(0) if rectified else np.array(info.d)
    if distortion.any() and info.distortion_model not in DISTORTIONS:
        raise ValueError(
            f"camera_info has the distortion model {info.distortion_model!r}; accepted: plumb_bob, "
            "rational_polynomial, or rectified images (parameter observation_rectified)"
        )
    return ObservedCamera(info.height, info.width, matrix, distortion)


class CameraFit:
    """Turns pictures into what the model's camera sees, in its size.

    With a known ``camera`` the model's field of view is cut out of the picture and distortion is
    taken out. Without one the picture is taken for one of the model's field of view and may only
    be of about its shape.

    Raises:
        ValueError: the camera does not show all that the model's sees.
    """

    def __init__(self, form: ContextFormat, camera: ObservedCamera | None) -> None:
        self._form = form
        self._camera = camera
        if camera:
            self._places = _places(form, camera)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture, uint8 [H, W, 3] RGB, as the model's camera sees it.

        Raises:
            ValueError: it is of a size that does not fit.
        """
        form, camera = self._form, self._camera
        height, width = picture.shape[:2]
        if camera is None:
            check_size(height, width, form, "the image")
            return fit_frames(picture[None], form.height, form.width)[0]
        if (camera.height, camera.width) != (height, width):
            raise ValueError(
                f"the image is {width}x{height}, but its camera_info is of "
                f"{camera.width}x{camera.height}"
            )
        x, y = self._places[..., 0], self._places[..., 1]
        seen = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.resize(seen, (form.width, form.height), interpolation=cv2.INTER_AREA)


def _places(form: ContextFormat, camera: ObservedCamera) -> np.ndarray:
    """Return where in the picture the model's pixels are, [n H, n W, 2] float32.

    About as fine as the picture is; a mean over n x n of them is a pixel.
    """
    focal = form.width / 2 / math.tan(form.fov_x / 2)
    fine = max(1, round(camera.matrix[0, 0] / focal))
    rows, columns = np.mgrid[: form.height * fine, : form.width * fine].astype(np.float64)
    rays = np.stack(
        [
            ((columns + 0.5) / fine - form.width / 2) / focal,
            ((rows + 0.5) / fine - form.height / 2) / focal,
            np.ones_like(rows),
        ],
        axis=-1,
    )
    points, _ = cv2.projectPoints(
        rays.reshape(-1, 3), np.zeros(3), np.zeros(3), camera.matrix, camera.distortion
    )
    places = points.reshape(*rows.shape, 2).astype(np.float32)
    _check_inside(places, camera, form)
    return places


def _check_inside(places: np.ndarray, camera: ObservedCamera, form: ContextFormat) -> None:
    size = np.array([camera.width, camera.height])
    missing = np.maximum(-0.5 - places, places - (size - 0.5)).max(axis=(0, 1)) / size
    if (missing > SLACK).any():
        fov_y = 2 * math.atan(math.tan(form.fov_x / 2) * form.height / form.width)
        own_y = 2 * math.atan(camera.height / 2 / camera.matrix[1, 1])
        raise ValueError(
            f"the camera sees {math.degrees(camera.fov_x):.1f}x{math.degrees(own_y):.1f} degrees, "
            f"less than the {math.degrees(form.fov_x):.1f}x{math.degrees(fov_y):.1f} degrees that "
            "the model needs"
        )
