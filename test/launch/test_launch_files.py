# SPDX-License-Identifier: Apache-2.0
"""What the launch files start, where the launch tooling is installed (it has no wheels)."""

import importlib.util
from pathlib import Path

import pytest

from hydra_ros.environment import share_folder
from hydra_ros.parameters import table
from hydra_ros.teleop.parameters import TeleopSettings

pytest.importorskip("launch_ros", reason="the launch tooling is not installed")

NAMES = ["simulator", "teleop", "demo", "planner"]


def load(name: str):
    path = share_folder("launch", f"{name}.launch.py")
    spec = importlib.util.spec_from_file_location(f"{name}_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def context_of(name: str, **given: str):
    """Return the context in which a launch file runs with some arguments given."""
    from launch import LaunchContext

    context = LaunchContext()
    for argument in load(name).generate_launch_description().get_launch_arguments():
        if argument.default_value is None:  # it has to be given
            continue
        text = "".join(part.describe().strip("'") for part in argument.default_value)
        context.launch_configurations[argument.name] = text
    context.launch_configurations.update(given)
    return context


def parameters_of(node, context) -> dict:
    """Return the parameters that a node of a launch file starts with, files left out."""
    import yaml

    node._perform_substitutions(context)
    values: dict = {}
    for path, is_file in node._Node__expanded_parameter_arguments:
        if is_file and "launch_params" in str(path):
            for section in yaml.safe_load(Path(path).read_text()).values():
                values.update(section["ros__parameters"])
    return values


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_described(name):
    arguments = load(name).generate_launch_description().get_launch_arguments()
    assert len({argument.name for argument in arguments}) == len(arguments)
    assert all(argument.description for argument in arguments)


def test_every_parameter_is_an_argument():
    def names(launch_file: str) -> set[str]:
        description = load(launch_file).generate_launch_description()
        return {argument.name for argument in description.get_launch_arguments()}

    assert {line.name for line in table()} <= names("simulator")
    assert {line.name for line in table(TeleopSettings)} <= names("teleop")


def test_only_arguments_that_were_given_override_the_parameter_file():
    context = context_of("simulator", mode="realtime", seed="7", publish_clock="true")
    (node,) = load("simulator").start_node(context)
    assert parameters_of(node, context) == {
        "use_sim_time": False,
        "mode": "realtime",
        "seed": 7,
        "publish_clock": True,
    }


def test_a_namespace_is_put_before_the_frames_unless_they_are_given():
    context = context_of("simulator", namespace="/left", world_frame="earth")
    (node,) = load("simulator").start_node(context)
    assert parameters_of(node, context) == {
        "use_sim_time": False,
        "world_frame": "earth",
        "camera_frame": "left/camera_link",
        "optical_frame": "left/camera_optical_frame",
    }


def test_a_wrong_parameter_file_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match="realtime"):
        load("simulator").start_node(context_of("simulator", params_file="no_such"))


def test_a_wrong_value_is_named_with_what_is_accepted():
    with pytest.raises(ValueError, match="seed is 'abc'"):
        load("simulator").start_node(context_of("simulator", seed="abc"))
    with pytest.raises(ValueError, match="lockstep, realtime"):
        load("simulator").start_node(context_of("simulator", mode="fast"))
    with pytest.raises(ValueError, match="keyboard, joystick, scripted"):
        load("teleop").start_nodes(context_of("teleop", input="wheel"))


def test_a_name_that_looks_like_a_number_stays_a_name():
    context = context_of("simulator", start_source="1")
    (node,) = load("simulator").start_node(context)
    assert parameters_of(node, context)["start_source"] == "1"


@pytest.mark.parametrize(
    "name, argument", [("demo", "drive"), ("demo", "rviz"), ("simulator", "log_level")]
)
def test_a_choice_is_offered(name, argument):
    arguments = load(name).generate_launch_description().get_launch_arguments()
    (found,) = [each for each in arguments if each.name == argument]
    assert context_of(name).launch_configurations[argument] in found.choices


def test_the_planner_is_started_with_its_goal_beside_a_simulator():
    context = context_of(
        "planner", goal="goal.png", namespace="/left", legs="4", candidates="8", iterations="3"
    )
    _, planner = load("planner").start_all(context)
    words = [part.perform(context) for (part,) in planner.cmd]
    assert words[2:] == [
        "--goal", "goal.png", "--legs", "4", "--candidates", "8", "--iterations", "3",
        "--namespace", "/left",
    ]  # fmt: skip


def test_a_joystick_starts_its_driver_too():
    nodes = load("teleop").start_nodes(context_of("teleop", input="joystick"))
    assert [node.node_package for node in nodes] == ["hydra_ros", "joy"]
    nodes = load("teleop").start_nodes(context_of("teleop"))
    assert [node.node_package for node in nodes] == ["hydra_ros"]


def test_relative_poses_are_in_the_camera_frame_of_the_namespace():
    def frame_id(**given: str) -> str | None:
        context = context_of("teleop", output="pose", **given)
        (node,) = load("teleop").start_nodes(context)
        return parameters_of(node, context).get("frame_id")

    assert frame_id(namespace="/left") == "left/camera_link"
    assert frame_id(namespace="left", frame_id="eye") == "eye"
    assert frame_id() is None


@pytest.mark.parametrize(
    "given, count", [({}, 2), ({"drive": "none"}, 1), ({"drive": "none", "rviz": "true"}, 2)]
)
def test_the_demo_starts_what_is_asked_for(given, count):
    assert len(load("demo").start_all(context_of("demo", **given))) == count


def test_rviz_takes_a_layout_of_ones_own_unless_it_is_for_another_version_or_program(tmp_path):
    mine = tmp_path / "mine.rviz"
    text = share_folder("config", "hydra.rviz").read_text()
    mine.write_text(text)
    given = {"drive": "none", "rviz": "true", "rviz_config": str(mine)}
    *_, rviz = load("demo").start_all(context_of("demo", **given))
    context = context_of("demo", **given)
    words = [part.perform(context) for parts in rviz.cmd[1:] for part in parts]
    assert words[:4] == ["-d", str(mine), "-f", "map"]
    mine.write_text(text.replace("hydra_ros_layout: 1", "hydra_ros_layout: 2"))
    with pytest.raises(ValueError, match=r"mine.rviz is a layout for version 2"):
        load("demo").start_all(context_of("demo", **given))
    mine.write_text(text.replace("rviz_default_plugins/", "rviz/"))
    with pytest.raises(ValueError, match=r"mine.rviz is a layout of RViz 1, "):
        load("demo").start_all(context_of("demo", **given))
    with pytest.raises(ValueError, match=r"foxglove.json is a layout of Foxglove; "):
        load("demo").start_all(context_of("demo", **{**given, "rviz_config": "foxglove.json"}))
