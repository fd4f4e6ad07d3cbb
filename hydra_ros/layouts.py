# SPDX-License-Identifier: Apache-2.0
"""The layouts of RViz and Foxglove in ``config/``: what they show, and for which version."""

from __future__ import annotations

import json
from collections.abc import Iterator
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


RVIZ, FOXGLOVE = "RViz 2", "Foxglove"
ACCEPTED = f"accepted: a layout of {RVIZ}, or one that {FOXGLOVE} exported"


def layout_file(name: str, program: str | None = None) -> Path:
    """Return a layout: a path, or the name of one in ``config/``, after a look at what it is for.

    Raises:
        ValueError: there is none, it is no layout or another program's (where ``program`` is
            given, any but that one's), or one for another version of hydra_ros.
    """
    given = Path(name).expanduser()
    path = share_folder("config", name) if given.name == name and not given.is_file() else given
    if not path.is_file():
        raise ValueError(f"there is no layout {name!r}; hydra_ros has hydra.rviz and foxglove.json")
    found, version = identify(path)
    if program not in (None, found):
        raise ValueError(f"{path} is a layout of {found}; accepted here: one of {program}")
    if version not in (None, VERSION):
        own = "hydra.rviz" if found == RVIZ else "foxglove.json"
        raise ValueError(
            f"{path} is a layout for version {version} of what hydra_ros publishes; this is "
            f"version {VERSION}: take {share_folder('config', own)} anew"
        )
    return path.absolute()


def identify(path: Path) -> tuple[str, Any]:
    """Return the program that a layout is for, and its version, None where it does not say.

    Raises:
        ValueError: it is no layout of RViz 2 or Foxglove; says what it is instead.
    """
    try:
        text = path.read_text(encoding="utf-8")
        layout = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        form = "JSON" if path.suffix == ".json" else "YAML"
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise ValueError(f"{path} is cut short or no {form} ({problem}); {ACCEPTED}") from None
    layout = layout if isinstance(layout, dict) else {}
    if layout.get("configById"):
        variables = layout.get("globalVariables")
        return FOXGLOVE, variables.get(KEY) if isinstance(variables, dict) else None
    classes = set(_classes(layout.get("Visualization Manager")))
    of_rviz_1 = sorted(name for name in classes if name.startswith("rviz/"))
    if classes and not of_rviz_1:
        return RVIZ, layout.get(KEY)
    if of_rviz_1:
        what = f"a layout of RViz 1, which came with ROS 1 (it has {of_rviz_1[0]})"
    elif "savedProps" in layout:  # what became configById
        what = "a layout of Webviz or of an early Foxglove Studio"
    elif {"version", "content"} <= layout.keys():
        what = "a layout that a program made with the Foxglove SDK"
    else:
        what = f"no layout of {RVIZ} or {FOXGLOVE}"
    raise ValueError(f"{path} is {what}; {ACCEPTED}")


def _classes(part: Any) -> Iterator[str]:
    """Yield the classes of displays, tools and views in a layout of RViz, groups included."""
    if isinstance(part, dict):
        if isinstance(part.get("Class"), str) and part["Class"]:
            yield part["Class"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _classes(each)
