# SPDX-License-Identifier: Apache-2.0
"""ROS messages as the page gets them."""

import array
import json
import math

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import Pose, PoseStamped
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from hydra_ros.conversions import body_to_optical, pose_to_message
from hydra_ros.diagnostics import Counters, Status, diagnostic_message
from hydra_ros.msg import ImaginedFuture, Memory, MemoryFrame
from hydra_ros.web.views import (
    camera_view,
    diagnostics_view,
    figures_view,
    futures_view,
    memory_view,
)

LEFT = np.array([[0, -1, 0, 1.0], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])  # looks along +y


@pytest.mark.parametrize(
    ("convention", "pose"), [("body", LEFT), ("optical", body_to_optical(LEFT))]
)
def test_a_camera_looks_the_same_way_in_either_convention(convention, pose):
    view = camera_view(pose_to_message(pose), convention)
    assert view == {"position": [1.0, 2.0, 3.0], "forward": [0.0, 1.0, 0.0]}


def test_a_pose_that_is_none_is_left_out():
    broken = Pose()
    broken.orientation.w = 0.0
    assert camera_view(broken, "body") is None


def test_the_memory_keeps_its_scores_and_the_thumbnails_of_what_was_chosen():
    def frame(index, **fields):
        return MemoryFrame(index=index, pose=pose_to_message(LEFT), **fields)

    jpeg = array.array("B", b"jpeg")
    message = Memory(
        policy="hybrid",
        frames=[
            frame(3, selected=True, terms=["overlap"], term_scores=[0.5], thumbnail=jpeg),
            frame(4, selected=True, origin=MemoryFrame.IMAGINED, score=math.inf),
            frame(5, thumbnail=jpeg),
            MemoryFrame(index=6, pose=Pose(orientation=broken_orientation())),
        ],
    )
    view, thumbnails = memory_view(message, "body")
    json.dumps(view, allow_nan=False)
    assert [entry["index"] for entry in view["frames"]] == [3, 4, 5]
    assert [entry["thumbnail"] for entry in view["frames"]] == [0, -1, -1]
    assert view["frames"][0]["terms"] == {"overlap": 0.5}
    assert [entry["observed"] for entry in view["frames"]] == [True, False, True]
    assert view["frames"][1]["score"] is None
    assert thumbnails == [b"jpeg"]


def broken_orientation():
    orientation = Pose().orientation
    orientation.w = 0.0
    return orientation


def test_futures_come_in_the_order_of_their_paths_with_all_their_frames():
    def future(candidate, *images):
        return ImaginedFuture(
            id=f"f{candidate}",
            candidate=candidate,
            poses=[PoseStamped(pose=pose_to_message(LEFT))],
            compressed=[CompressedImage(data=array.array("B", image)) for image in images],
        )

    views, images = futures_view([future(1, b"c"), future(0, b"a", b"b")], "body")
    assert [(view["id"], view["first"], view["count"]) for view in views] == [
        ("f0", 0, 2), ("f1", 2, 1)
    ]  # fmt: skip
    assert images == [b"a", b"b", b"c"]


def test_the_status_of_the_right_simulator_is_shown():
    status = Status(state="running", mode="realtime", counters=Counters(), latency=0.25)
    message = diagnostic_message(status, "/a/hydra_simulator", Header())
    view = diagnostics_view(message, "/a/hydra_simulator: simulator")
    assert view["level"] == 0
    assert view["values"]["state"] == "running"
    assert figures_view(view["values"], 5.0) == {
        "wall": 5.0, "real_time_factor": None, "latency_s": 0.25, "chunk_s": 0.0
    }  # fmt: skip
    assert diagnostics_view(message, "/b/hydra_simulator: simulator") is None
    assert diagnostics_view(DiagnosticArray(), "/a/hydra_simulator: simulator") is None
