# SPDX-License-Identifier: Apache-2.0
"""Start the simulator node: `ros2 launch hydra_ros simulator.launch.py mode:=realtime`.

Every parameter of the node is an argument of the same name. What is given here wins over
``params_file``, and that over the defaults. The node configures and activates itself
(``autostart``), so there are no event handlers; with ``autostart:=false`` the transitions are
left to a lifecycle manager.

Two simulators at once: give each a ``namespace``. Topics and services are then below it, and
the names of the frames get it as a prefix, since all nodes share one /tf.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from hydra_ros.environment import parameter_file, use_dds_profile
from hydra_ros.parameters import table
from launch import LaunchContext, LaunchDescription

# Argument, default, description, what is accepted (None: anything). Those of the parameters
# follow from their table.
ARGUMENTS = (
    ("namespace", "", "Namespace of the node, its topics and services.", None),
    (
        "frame_prefix",
        "auto",
        "Put before the names of the frames; auto: the namespace and a slash, if there is one.",
        None,
    ),
    (
        "params_file",
        "default.yaml",
        "Parameter file: a path, or the name of one of hydra_ros' own in config/.",
        None,
    ),
    ("use_sim_time", "false", "Take time from /clock.", ("true", "false")),
    ("log_level", "info", "What is logged.", ("debug", "info", "warn", "error", "fatal")),
    ("respawn", "false", "Start the node again when it ends.", ("true", "false")),
)

FRAMES = ("world_frame", "camera_frame", "optical_frame")


def start_node(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    namespace, prefix = value("namespace").strip("/"), value("frame_prefix")
    if prefix == "auto":
        prefix = f"{namespace}/" if namespace else ""
    given = {
        line.name: ParameterValue(line.parse(value(line.name)), value_type=type(line.default))
        for line in table()
        if value(line.name)
    }
    frames = {line.name: prefix + line.default for line in table() if line.name in FRAMES}
    return [
        Node(
            package="hydra_ros",
            executable="hydra_simulator",
            name="hydra_simulator",
            namespace=namespace,
            parameters=[
                str(parameter_file(value("params_file"))),
                {"use_sim_time": value("use_sim_time") == "true"},
                {**(frames if prefix else {}), **given},
            ],
            arguments=["--ros-args", "--log-level", value("log_level")],
            output="screen",
            emulate_tty=True,
            respawn=value("respawn") == "true",
            respawn_delay=2.0,
            sigterm_timeout="20",  # a chunk that is under way is finished first
        )
    ]


def generate_launch_description() -> LaunchDescription:
    # Images need more than the middleware's defaults; a user's own profile stays in force.
    use_dds_profile()
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
                    description=f"{line.description} Empty: as in params_file.",
                )
                for line in table()
            ),
            OpaqueFunction(function=start_node),
        ]
    )
