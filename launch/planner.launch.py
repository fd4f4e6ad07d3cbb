# SPDX-License-Identifier: Apache-2.0
"""Image-goal navigation: `ros2 launch hydra_ros planner.launch.py goal:=goal.png`.

It starts a simulator in lockstep (simulator.launch.py) and the example planner, which drives it
until the camera sees the goal picture. All of it ends as soon as one of the two does; exit code
1 says that it failed.
"""

import sys

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from hydra_ros.environment import share_folder
from hydra_ros.launch_end import end_all
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

# Argument, default, description; the first has to be given.
ARGUMENTS = (
    ("goal", None, "Picture that the camera shall see."),
    ("namespace", "", "Namespace of everything."),
    ("params_file", "planner.yaml", "Parameter file of the simulator."),
    ("model", "", "Weights: 'default' or a model folder. Empty: as in params_file."),
    ("device", "", "Device the model runs on. Empty: as in params_file."),
    ("seed", "", "Seed of the procedural world. Empty: as in params_file."),
    ("legs", "6", "Most legs to drive."),
    ("candidates", "16", "Ways that are imagined at once; fewer are faster."),
    ("iterations", "2", "Times that they are narrowed down before a leg is driven."),
)


def start_all(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    of_simulator = {
        name: value(name) for name in ("namespace", "params_file", "model", "device", "seed")
    }
    source = PythonLaunchDescriptionSource(str(share_folder("launch", "simulator.launch.py")))
    namespace = value("namespace").strip("/")
    planner = ExecuteProcess(
        cmd=[
            sys.executable,
            str(share_folder("examples", "image_goal_navigation.py")),
            *("--goal", value("goal"), "--legs", value("legs")),
            *("--candidates", value("candidates"), "--iterations", value("iterations")),
            *(("--namespace", f"/{namespace}") if namespace else ()),
        ],
        name="planner",
        output="screen",
    )
    return [
        # In a group: arguments of one launch file must not reach the next.
        GroupAction([IncludeLaunchDescription(source, launch_arguments=of_simulator.items())]),
        planner,
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            OpaqueFunction(function=start_all),
            RegisterEventHandler(OnProcessExit(on_exit=end_all)),
        ]
    )
