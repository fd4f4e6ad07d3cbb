# SPDX-License-Identifier: Apache-2.0
"""The layouts of RViz and Foxglove in ``config/``: what they show, and for which version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from hydra_ros.environment import share_folder

# What the layouts show. Whoever changes it raises VERSION, here and in both layouts: layouts
# that were copied or adapted before then show topics that are gone.
SHOWN = {
    "camera/image_raw": "sensor_msgs/msg/Image",
    "camera/camera_info": "sensor_msgs/msg/CameraInfo",
    "camera/pose": "geometry_msgs/msg/PoseStamped",
    "memory/markers": "visualization_msgs/msg/MarkerArray",
    "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
}
VERSION = 1

# Where it stands: at the top of an RViz layout, which RViz leaves out when it saves, and among the
# global variables of a Foxglove one, which are part of what a user may change and export.
KEY = "hydra_ros_layout"


def layout_file(name: str) -> Path:
    """Return a layout: a path, or the name of one in ``config/``, after a look at its version.

    Raises:
        ValueError: there is none, it is no layout, or one for another version of hydra_ros.
    """
    given = Path(name).expanduser()
    path = share_folder("config", name) if given.name == name and not given.is_file() else given
    if not path.is_file():
        raise ValueError(f"there is no layout {name!r}; hydra_ros has hydra.rviz and foxglove.json")
    version = layout_version(path)
    if version not in (None, VERSION):
        own = "foxglove.json" if path.suffix == ".json" else "hydra.rviz"
        raise ValueError(
            f"{path} is a layout for version {version} of what hydra_ros publishes; this is "
            f"version {VERSION}: take {share_folder('config', own)} anew"
        )
    return path.absolute()


def layout_version(path: Path) -> Any:
    """Return the version that a layout is for; None where it does not say.

    Raises:
        ValueError: the file is no layout of RViz or Foxglove.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            layout = json.loads(text)
            return layout["globalVariables"].get(KEY) if layout["configById"] else None
        layout = yaml.safe_load(text)
        return layout.get(KEY) if layout["Visualization Manager"] else None
    except (ValueError, yaml.YAMLError, LookupError, TypeError, AttributeError):
        raise ValueError(f"{path} is no layout of RViz or Foxglove") from None
