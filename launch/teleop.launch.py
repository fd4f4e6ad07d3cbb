# SPDX-License-Identifier: Apache-2.0
"""Drive the camera: `ros2 launch hydra_ros teleop.launch.py input:=joystick`.

The keyboard is read from the terminal that `ros2 launch` runs in, over SSH too; nothing else
should print there. Every parameter of hydra_teleop is an argument of the same name.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from hydra_ros.parameters import table
from hydra_ros.teleop.parameters import TeleopSettings
from launch import LaunchContext, LaunchDescription

# Argument, default, description, what is accepted (None: anything). Those of the parameters
# follow from their table.
ARGUMENTS = (
    ("namespace", "", "Namespace of the simulator that is driven.", None),
    ("use_sim_time", "false", "Take time from /clock.", ("true", "false")),
    (
        "log_level",
        "warn",
        "What is logged; teleop draws on the same screen.",
        ("debug", "info", "warn", "error", "fatal"),
    ),
    (
        "joy_node",
        "true",
        "With input:=joystick, start the driver of the package joy too.",
        ("true", "false"),
    ),
    ("joy_device", "0", "Number of the joystick for that driver.", None),
)


def start_nodes(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    given = {
        line.name: ParameterValue(line.parse(value(line.name)), value_type=type(line.default))
        for line in table(TeleopSettings)
        if value(line.name)
    }
    namespace = value("namespace").strip("/")
    if namespace and value("output") == "pose":
        # Relative poses are in the camera's frame, as simulator.launch.py names it.
        given.setdefault("frame_id", f"{namespace}/camera_link")
    use_sim_time = {"use_sim_time": value("use_sim_time") == "true"}
    nodes = [
        Node(
            package="hydra_ros",
            executable="hydra_teleop",
            name="hydra_teleop",
            namespace=namespace,
            parameters=[use_sim_time, given],
            arguments=["--ros-args", "--log-level", value("log_level")],
            output="screen",
        )
    ]
    if value("input") == "joystick" and value("joy_node") == "true":
        nodes.append(
            Node(
                package="joy",
                executable="joy_node",
                name="joy",
                namespace=namespace,
                parameters=[{"device_id": int(value("joy_device"))}],
                output="screen",
            )
        )
    return nodes


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=description, choices=choices
                )
                for name, default, description, choices in ARGUMENTS
            ),
            *(
                DeclareLaunchArgument(
                    line.name,
                    default_value="",
                    description=f"{line.description} Empty: {line.default!r}.",
                )
                for line in table(TeleopSettings)
            ),
            OpaqueFunction(function=start_nodes),
        ]
    )
