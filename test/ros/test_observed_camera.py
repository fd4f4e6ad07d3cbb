# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from hydra_ros import conversions
from hydra_ros.observed_camera import CameraFit, ObservedCamera, observed_camera
from hydra_ros.starting_world import ContextFormat

FORM = ContextFormat(frames=17, height=48, width=80, fps=15.0, fov_x=math.radians(70))


def info(height: int, width: int, degrees: float) -> CameraInfo:
    return conversions.camera_info_message(height, width, math.radians(degrees), Header())


def scene(height: int, width: int, degrees: float, distortion=None) -> np.ndarray:
    """What a camera sees of a pattern of directions: x and y of the viewing ray, as colours."""
    import cv2

    matrix = np.array(info(height, width, degrees).k).reshape(3, 3)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    pixels = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)
    rays = cv2.undistortPoints(pixels, matrix, distortion).reshape(height, width, 2)
    colours = np.clip(128 + 120 * rays, 0, 255)
    return np.concatenate([colours, np.full((height, width, 1), 50)], axis=-1).astype(np.uint8)


OWN = scene(48, 80, 70)


def difference(picture: np.ndarray) -> float:
    """Largest difference to what the model's camera sees, away from the outermost pixels."""
    return np.abs(picture.astype(int) - OWN.astype(int))[1:-1, 1:-1].max()


@pytest.mark.parametrize(
    ("height", "width", "degrees"),
    [(48, 80, 70), (96, 160, 70), (480, 640, 90), (720, 1280, 100), (480, 640, 75)],
)
def test_the_models_field_of_view_is_cut_out_of_a_wider_picture(height, width, degrees):
    fit = CameraFit(FORM, observed_camera(info(height, width, degrees), rectified=False))
    seen = fit(scene(height, width, degrees))
    assert seen.shape == (48, 80, 3) and seen.dtype == np.uint8
    assert difference(seen) <= 3


def test_distortion_is_taken_out():
    message = info(480, 640, 90)
    message.d = [-0.2, 0.05, 0.0, 0.0, 0.0]
    picture = scene(480, 640, 90, np.array(message.d))
    fit = CameraFit(FORM, observed_camera(message, rectified=False))
    assert difference(fit(picture)) <= 3
    ignored = CameraFit(FORM, observed_camera(message, rectified=True))
    assert difference(ignored(picture)) > 5


@pytest.mark.parametrize("degrees", [40, 60, 67])
def test_a_narrower_camera_is_refused_with_both_fields_of_view(degrees):
    with pytest.raises(ValueError, match=rf"sees {degrees}\.0x.* less than the 70\.0x45\.6"):
        CameraFit(FORM, observed_camera(info(480, 800, degrees), rectified=False))


def test_a_picture_that_is_too_low_is_refused():
    with pytest.raises(ValueError, match="less than the"):
        CameraFit(FORM, observed_camera(info(200, 640, 80), rectified=False))


def test_without_camera_info_a_picture_of_the_same_shape_is_resized():
    fit = CameraFit(FORM, None)
    assert difference(fit(scene(480, 800, 70))) <= 3
    for height, width, words in ((40, 80, "too small"), (480, 480, "of another shape")):
        with pytest.raises(ValueError, match=words):
            fit(np.zeros((height, width, 3), np.uint8))


def test_a_camera_info_of_another_size_is_refused():
    fit = CameraFit(FORM, observed_camera(info(480, 640, 90), rectified=False))
    with pytest.raises(ValueError, match="image is 320x240, but its camera_info is of 640x480"):
        fit(np.zeros((240, 320, 3), np.uint8))


def test_a_camera_that_is_not_calibrated_or_no_pinhole_is_refused():
    with pytest.raises(ValueError, match="not calibrated"):
        observed_camera(CameraInfo(height=480, width=640), rectified=False)
    message = info(480, 640, 90)
    message.d, message.distortion_model = [0.1] * 4, "equidistant"
    with pytest.raises(ValueError, match="distortion model 'equidistant'; accepted: plumb_bob"):
        observed_camera(message, rectified=False)
    assert isinstance(observed_camera(message, rectified=True), ObservedCamera)
