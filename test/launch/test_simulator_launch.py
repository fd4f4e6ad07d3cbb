# SPDX-License-Identifier: Apache-2.0
"""The launch file, where the launch tooling is installed (it is not to be had as wheels)."""

import importlib.util

import pytest

from hydra_ros.environment import share_folder
from hydra_ros.parameters import Settings

pytest.importorskip("launch_ros", reason="the launch tooling is not installed")

ARGUMENTS = {
    "namespace",
    "params_file",
    "log_level",
    "model",
    "device",
    "mode",
    "clips_folder",
    "autostart",
    "use_sim_time",
}


def load():
    spec = importlib.util.spec_from_file_location(
        "simulator_launch", share_folder("launch", "simulator.launch.py")
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_argument_is_described_and_names_a_parameter():
    arguments = load().generate_launch_description().get_launch_arguments()
    assert {argument.name for argument in arguments} == ARGUMENTS
    assert all(argument.description for argument in arguments)
    own = {name for name, _, _ in load().PARAMETERS} - {"use_sim_time"}
    assert own <= set(vars(Settings()))


def test_only_arguments_that_were_given_override_the_parameter_file():
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update({name: "" for name in ARGUMENTS})
    context.launch_configurations.update(
        {"mode": "realtime", "log_level": "info", "params_file": "/some/file.yaml"}
    )
    (node,) = load().start_node(context)
    assert node.node_package == "hydra_ros"
