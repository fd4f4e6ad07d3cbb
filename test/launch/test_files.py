# SPDX-License-Identifier: Apache-2.0
"""Launch and configuration files, as far as they can be checked without the launch tooling."""

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

from hydra_ros import layouts
from hydra_ros.environment import parameter_file, share_folder
from hydra_ros.parameters import table

ROOT = Path(__file__).parents[2]
LAUNCH = sorted((ROOT / "launch").glob("*.launch.py"))
OWN_NAMES = {"cpu", "gpu", "planner", "realtime"}
TOPICS = {topic.lstrip("/") for topic in layouts.SHOWN}
# What each version of the layouts shows: whoever changes it adds a version.
OF_VERSION = {
    1: {
        "camera/image_raw": "sensor_msgs/msg/Image",
        "camera/camera_info": "sensor_msgs/msg/CameraInfo",
        "camera/pose": "geometry_msgs/msg/PoseStamped",
        "memory/markers": "visualization_msgs/msg/MarkerArray",
        "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray",
    }
}
# What RViz's displays take.
DISPLAYS = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/Pose": "geometry_msgs/msg/PoseStamped",
}


def by_name(path: Path) -> str:
    return path.name


def strings_of(path: Path, keyword: str) -> set[str]:
    """Return the strings that are given as a keyword argument anywhere in a file."""
    return {
        node.value.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.keyword)
        and node.arg == keyword
        and isinstance(node.value, ast.Constant)
    }


def test_there_are_launch_files():
    assert {"simulator.launch.py", "teleop.launch.py", "demo.launch.py"} <= set(
        map(by_name, LAUNCH)
    )


@pytest.mark.parametrize("path", LAUNCH, ids=by_name)
def test_a_launch_file_starts_what_is_installed(path):
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    installed = set(re.findall(r"install_executable\((\S+)", cmake))
    others = {"rviz2", "joy_node"}
    assert strings_of(path, "executable") <= installed | others
    assert strings_of(path, "package") <= {"hydra_ros", "rviz2", "joy"}


@pytest.mark.parametrize("path", LAUNCH, ids=by_name)
def test_a_launch_file_names_files_that_are_there(path):
    names = re.findall(r'"([\w.]+\.(?:yaml|rviz|launch\.py))"', path.read_text(encoding="utf-8"))
    there = {file.name for folder in ("config", "launch") for file in (ROOT / folder).iterdir()}
    assert set(names) <= there


@pytest.mark.parametrize("path", LAUNCH, ids=by_name)
def test_every_argument_of_a_launch_file_is_described(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    declared = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument"
    ]
    assert declared
    assert all({"description"} <= {keyword.arg for keyword in call.keywords} for call in declared)


@pytest.mark.parametrize("name", sorted(OWN_NAMES))
def test_a_parameter_file_names_only_what_differs_and_is_accepted(name):
    values = yaml.safe_load(parameter_file(name).read_text(encoding="utf-8"))
    (given,) = [node["ros__parameters"] for node in values.values()]
    lines = {line.name: line for line in table()}
    for key, value in given.items():
        assert type(value) is type(lines[key].default), key
        assert lines[key].check(value) is None
        assert value != lines[key].default, key


def test_every_parameter_file_is_checked():
    assert {path.stem for path in (ROOT / "config").glob("*.yaml")} == OWN_NAMES | {"default"}


def test_a_parameter_file_is_a_path_or_one_of_ours(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("{}")
    assert parameter_file(str(own)) == own
    assert parameter_file("realtime") == parameter_file("realtime.yaml")
    assert parameter_file("realtime").parent == share_folder("config")
    with pytest.raises(ValueError, match=r"'fast'.*cpu, default, gpu, planner, realtime"):
        parameter_file("fast")


def test_the_version_of_the_layouts_stands_for_what_they_show():
    assert OF_VERSION[layouts.VERSION] == layouts.SHOWN
    config = ROOT / "config"
    assert layouts.identify(config / "hydra.rviz") == (layouts.RVIZ, layouts.VERSION)
    assert layouts.identify(config / "foxglove.json") == (layouts.FOXGLOVE, layouts.VERSION)


# As other programs write them.
RVIZ_1 = """
Panels:
  - Class: rviz/Displays
    Name: Displays
Visualization Manager:
  Class: ""
  Displays:
    - Class: rviz/Image
      Image Topic: /camera/image_raw
      Name: Image
      Transport Hint: raw
  Tools:
    - Class: rviz/MoveCamera
  Views:
    Current:
      Class: rviz/Orbit
"""
WEBVIZ = """
{"layout": "ImageViewPanel!a",
 "savedProps": {"ImageViewPanel!a": {"cameraTopic": "/camera/image_raw"}},
 "globalVariables": {}, "linkedGlobalVariables": [], "version": 19}
"""
FOXGLOVE_SDK = """
{"version": 1, "variables": {"hydra_ros_layout": 1},
 "content": {"type": "panel", "panelType": "Image", "config": {}, "version": 1}}
"""
OURS = {name: (ROOT / "config" / name).read_text() for name in ("hydra.rviz", "foxglove.json")}


@pytest.mark.parametrize(
    "name, text, what",
    [
        ("mine.rviz", RVIZ_1, "a layout of RViz 1, which came with ROS 1 (it has rviz/Image)"),
        ("mine.json", WEBVIZ, "a layout of Webviz or of an early Foxglove Studio"),
        ("mine.json", FOXGLOVE_SDK, "a layout that a program made with the Foxglove SDK"),
        ("mine.json", OURS["foxglove.json"][:900], "cut short or no JSON (Expecting"),
        ("mine.rviz", OURS["hydra.rviz"][:900] + '"', "cut short or no YAML ("),
        ("mine.json", OURS["hydra.rviz"], "cut short or no JSON (Expecting value: line 1"),
        ("mine.rviz", OURS["hydra.rviz"][:300], "no layout of RViz 2 or Foxglove"),
        ("mine.rviz", "", "no layout of RViz 2 or Foxglove"),
        ("mine.rviz", "an ordinary text", "no layout of RViz 2 or Foxglove"),
        ("mine.json", "[1, 2]", "no layout of RViz 2 or Foxglove"),
        ("mine.rviz", "\0", "cut short or no YAML ("),
        ("mine.rviz", "\x89PNG\x1a\0", "cut short or no YAML ("),
    ],
)
def test_what_is_no_layout_is_named_with_what_is_accepted(name, text, what, tmp_path):
    path = tmp_path / name
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=re.escape(f"{path} is {what}")) as raised:
        layouts.layout_file(str(path))
    assert str(raised.value).endswith("accepted: a layout of RViz 2, or one that Foxglove exported")
    assert "\n" not in str(raised.value)


def test_a_layout_that_rviz_2_saved_is_accepted_whatever_it_shows(tmp_path):
    path = tmp_path / "mine.rviz"
    path.write_text(RVIZ_1.replace("rviz/", "rviz_default_plugins/"))
    assert layouts.layout_file(str(path), layouts.RVIZ) == path


def test_a_layout_of_foxglove_is_not_given_to_rviz(tmp_path):
    path = tmp_path / "mine.rviz"  # JSON is YAML, too
    path.write_text(OURS["foxglove.json"])
    with pytest.raises(ValueError, match=r"mine.rviz is a layout of Foxglove; .*one of RViz 2$"):
        layouts.layout_file(str(path), layouts.RVIZ)


def test_rviz_shows_topics_that_are_published_with_displays_that_take_them():
    layout = yaml.safe_load((ROOT / "config" / "hydra.rviz").read_text(encoding="utf-8"))
    displays = layout["Visualization Manager"]["Displays"]
    shown = {
        display["Topic"]["Value"]: DISPLAYS[display["Class"]]
        for display in displays
        if "Topic" in display
    }
    not_in_rviz = {"camera/camera_info", "/diagnostics"}
    assert shown == {
        topic: kind for topic, kind in layouts.SHOWN.items() if topic not in not_in_rviz
    }
    assert layout["Visualization Manager"]["Global Options"]["Fixed Frame"] == "map"


def test_foxglove_shows_topics_that_are_published_in_panels_that_are_laid_out():
    text = (ROOT / "config" / "foxglove.json").read_text(encoding="utf-8")
    layout = json.loads(text)
    topics = set(re.findall(r'"/([a-z_/]+)[".]', text))
    assert topics == TOPICS

    def panels(part) -> set[str]:
        if isinstance(part, str):
            return {part}
        return panels(part["first"]) | panels(part["second"])

    assert panels(layout["layout"]) == set(layout["configById"])


def test_the_plot_takes_values_that_diagnostics_have():
    from std_msgs.msg import Header

    from hydra_ros.diagnostics import Counters, Status, diagnostic_message

    status = Status(state="running", mode="realtime", counters=Counters())
    message = diagnostic_message(status, "/node", Header())
    known = {pair.key for pair in message.status[0].values}
    text = (ROOT / "config" / "foxglove.json").read_text(encoding="utf-8")
    assert set(re.findall(r'key==\\"(\w+)\\"', text)) <= known
