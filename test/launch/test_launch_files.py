# SPDX-License-Identifier: Apache-2.0
"""What the launch files start, where the launch tooling is installed (it has no wheels)."""

import importlib.util
from pathlib import Path

import pytest

from hydra_ros.environment import share_folder
from hydra_ros.parameters import table
from hydra_ros.teleop.parameters import TeleopSettings

pytest.importorskip("launch_ros", reason="the launch tooling is not installed")

NAMES = ["simulator", "teleop", "demo"]


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


def test_a_joystick_starts_its_driver_too():
    nodes = load("teleop").start_nodes(context_of("teleop", input="joystick"))
    assert [node.node_package for node in nodes] == ["hydra_ros", "joy"]
    nodes = load("teleop").start_nodes(context_of("teleop"))
    assert [node.node_package for node in nodes] == ["hydra_ros"]


@pytest.mark.parametrize(
    "given, count", [({}, 2), ({"drive": "none"}, 1), ({"drive": "none", "rviz": "true"}, 2)]
)
def test_the_demo_starts_what_is_asked_for(given, count):
    assert len(load("demo").start_all(context_of("demo", **given))) == count
