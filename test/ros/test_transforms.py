# SPDX-License-Identifier: Apache-2.0
"""Poses from /tf. ``tf2_ros`` is not among the wheels: a buffer of its form stands in for it."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped

from hydra_ros.transforms import transform_lookup


class TransformException(Exception):
    pass


class Buffer:
    """Knows one transform: of "camera" in "map" at 2 s, 3 m up."""

    def lookup_transform(self, target: str, source: str, time) -> TransformStamped:
        if (target, source, time.nanoseconds) != ("map", "camera", 2 * 10**9):
            raise TransformException(f"{source!r} does not exist")
        found = TransformStamped()
        found.transform.translation.z = 3.0
        found.transform.rotation.w = 1.0
        return found


@pytest.fixture
def node():
    messages: list[str] = []
    return SimpleNamespace(
        messages=messages, get_logger=lambda: SimpleNamespace(error=messages.append)
    )


@pytest.fixture
def tf2_ros(monkeypatch):
    module = ModuleType("tf2_ros")
    module.Buffer, module.TransformException = Buffer, TransformException
    module.TransformListener = lambda buffer, node: (buffer, node)
    monkeypatch.setitem(sys.modules, "tf2_ros", module)


def test_the_pose_of_a_frame_at_a_stamp_is_its_transform(node, tf2_ros):
    pose = transform_lookup(node, "map")("camera", 2 * 10**9)
    np.testing.assert_array_equal(pose[:3, 3], [0, 0, 3])


def test_a_transform_that_is_not_there_is_a_lookup_error_with_the_reason(node, tf2_ros):
    lookup = transform_lookup(node, "map")
    with pytest.raises(LookupError, match="'gripper' does not exist"):
        lookup("gripper", 2 * 10**9)


def test_without_tf2_ros_it_is_said_once_and_every_lookup_fails(node, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    lookup = transform_lookup(node, "map")
    assert len(node.messages) == 1 and "tf2_ros is not installed" in node.messages[0]
    with pytest.raises(LookupError, match="not installed"):
        lookup("camera", 1)
