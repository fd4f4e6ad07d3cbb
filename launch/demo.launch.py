# SPDX-License-Identifier: Apache-2.0
"""A simulator in realtime that is driven: `ros2 launch hydra_ros demo.launch.py drive:=keyboard`.

It starts simulator.launch.py and teleop.launch.py, and RViz where ``rviz:=true`` asks for it.
All of it ends as soon as one of the processes does (key q in teleop, or Ctrl-C); exit code 1
says that it failed.
"""

from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from hydra_ros.environment import share_folder
from hydra_ros.launch_end import end_all
from hydra_ros.layouts import RVIZ, layout_file
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

# Argument, default, description, what is accepted (None: anything).
ARGUMENTS = (
    ("namespace", "", "Namespace of everything.", None),
    (
        "drive",
        "scripted",
        "What drives the camera; scripted looks away and comes back.",
        ("scripted", "keyboard", "joystick", "none"),
    ),
    ("rviz", "false", "Start RViz with a layout.", ("true", "false")),
    ("rviz_config", "hydra.rviz", "That layout: a path, or the name of hydra_ros' own.", None),
    (
        "params_file",
        "realtime.yaml",
        "Parameter file of the simulator, as simulator.launch.py's.",
        None,
    ),
    ("model", "", "Weights: 'default' or a model folder. Empty: as in params_file.", None),
    ("device", "", "Device the model runs on. Empty: as in params_file.", None),
    ("seed", "", "Seed of the procedural world. Empty: as in params_file.", None),
)


def start_all(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    def include(name: str, arguments: dict[str, str]) -> GroupAction:
        source = PythonLaunchDescriptionSource(str(share_folder("launch", name)))
        # In a group: arguments of one launch file must not reach the next.
        return GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())])

    namespace = value("namespace").strip("/")
    of_simulator = {
        name: value(name) for name in ("namespace", "params_file", "model", "device", "seed")
    }
    if value("drive") in ("keyboard", "joystick"):
        of_simulator["log_level"] = "warn"  # teleop draws on the same screen
    entities: list[LaunchDescriptionEntity] = [include("simulator.launch.py", of_simulator)]
    if value("drive") != "none":
        of_teleop = {"namespace": namespace, "input": value("drive")}
        entities.append(include("teleop.launch.py", of_teleop))
    if value("rviz") == "true":
        layout = layout_file(value("rviz_config"), RVIZ)
        world_frame = f"{namespace}/map" if namespace else "map"
        entities.append(
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=namespace,
                arguments=["-d", str(layout), "-f", world_frame],
            )
        )
    return entities


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=description, choices=choices
                )
                for name, default, description, choices in ARGUMENTS
            ),
            OpaqueFunction(function=start_all),
            RegisterEventHandler(OnProcessExit(on_exit=end_all)),
        ]
    )
