# SPDX-License-Identifier: Apache-2.0
"""The definitions put into bags are those of the types, as another implementation reads them."""

import json
import os
import sys
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from hydra_ros.recording.schemas import message_definition


@pytest.mark.parametrize(
    "name",
    [
        "hydra_ros/msg/Memory",
        "sensor_msgs/msg/CameraInfo",
        "nav_msgs/msg/Path",
        "diagnostic_msgs/msg/DiagnosticArray",
        "visualization_msgs/msg/MarkerArray",
    ],
)
def test_a_definition_has_the_hash_of_the_type(name):
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(message_definition(name), name))
    package, _, message = name.partition("/msg/")
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    paths = [Path(prefix, "share", package, "msg", f"{message}.json") for prefix in prefixes]
    description = next(path for path in paths if path.is_file())
    hashes = json.loads(description.read_text())["type_hashes"]
    (expected,) = [entry["hash_string"] for entry in hashes if entry["type_name"] == name]
    assert store.hash_rihs01(name) == expected


def test_a_type_that_is_not_installed_is_named():
    with pytest.raises(LookupError, match="tf9_msgs/msg/Nothing"):
        message_definition("tf9_msgs/msg/Nothing")
