# SPDX-License-Identifier: Apache-2.0
"""What a real node was given, in files and as arguments, that is no parameter of its own."""

import pytest
import rclpy
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Empty

from hydra_ros.unknown_parameters import unknown_message, unknown_parameters

FILE = """
/**:
  ros__parameters:
    for_all: 1
    speed: 2.0
    use_sim_time: false
    qos_overrides: {/topic: {publisher: {depth: 3}}, /tropic: {publisher: {depth: 3}}}
/given:
  ros__parameters: {for_it: true}
/other:
  ros__parameters: {for_another: true}
"""


@pytest.fixture
def node(tmp_path):
    (tmp_path / "parameters.yaml").write_text(FILE)
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    arguments = ["--ros-args", "--params-file", str(tmp_path / "parameters.yaml")]
    arguments += ["-p", "spede:=3", "-p", "other:of_a_name:=3", "-p", "given:seed:=3"]
    node = rclpy.create_node("given", context=context, cli_args=arguments)
    node.declare_parameter("speed", 1.0)
    node.declare_parameter("seed", 1)
    options = QoSOverridingOptions.with_default_policies()
    node.create_publisher(Empty, "/topic", QoSProfile(depth=1), qos_overriding_options=options)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_all_that_was_given_to_this_node_and_that_it_did_not_declare_is_found(node):
    assert node.get_parameter("speed").value == 2.0
    tropic = "qos_overrides./tropic.publisher.depth"
    assert unknown_parameters(node) == ["for_all", "for_it", tropic, "spede"]


def test_each_is_named_with_the_nearest_of_those_that_there_are():
    line = unknown_message(["spede", "x"], ["speed", "seed", "mode", "model"])
    assert line.startswith("unknown parameters are ignored: 'spede' (nearest accepted: speed, seed")
    assert "'x' (nearest accepted: " in line
