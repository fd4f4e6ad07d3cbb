# SPDX-License-Identifier: Apache-2.0
"""Start the simulator node: `ros2 launch hydra_ros simulator.launch.py mode:=realtime`.

Parameters come from ``params_file``; an argument that is given here wins over it. The node
configures and activates itself (``autostart``), so no event handlers are needed; with
``autostart:=false`` the transitions are left to a lifecycle manager.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from hydra_ros.environment import use_dds_profile
from launch import LaunchContext, LaunchDescription

# Argument, type, description; "" leaves the parameter to params_file.
PARAMETERS = (
    ("model", str, "Weights: 'default' or the path of a model folder."),
    ("device", str, "Device the model runs on: auto, cpu, cuda, ..."),
    ("mode", str, "lockstep (time advances with commands) or realtime (with the wall clock)."),
    ("clips_folder", str, "Folder of the clips that ~/reset may name."),
    ("autostart", bool, "Configure and activate by itself: true or false."),
    ("use_sim_time", bool, "Take time from /clock: true or false."),
)


def start_node(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    given = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind, _ in PARAMETERS
        if value(name)
    }
    return [
        Node(
            package="hydra_ros",
            executable="hydra_simulator",
            name="hydra_simulator",
            namespace=value("namespace"),
            parameters=[value("params_file"), given],
            arguments=["--ros-args", "--log-level", value("log_level")],
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    # Images need more than the middleware's defaults; a user's own profile stays in force.
    use_dds_profile()
    default_file = os.path.join(get_package_share_directory("hydra_ros"), "config", "default.yaml")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of the node and its topics."
            ),
            DeclareLaunchArgument(
                "params_file", default_value=default_file, description="Parameter file."
            ),
            DeclareLaunchArgument(
                "log_level", default_value="info", description="debug, info, warn, error or fatal."
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=description)
                for name, _, description in PARAMETERS
            ),
            OpaqueFunction(function=start_node),
        ]
    )
