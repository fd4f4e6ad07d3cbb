# SPDX-License-Identifier: Apache-2.0
"""Every parameter of ``hydra_teleop``; run as a module, this prints the table."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hydra_ros.parameters import as_markdown, parameter


@dataclass(frozen=True, kw_only=True)
class TeleopSettings:
    """The values of all parameters; all are fixed at the start."""

    input: str = parameter(
        "keyboard",
        """Where commands come from: the keys of the terminal, sensor_msgs/Joy on the topic joy,
        or a script that looks away and comes back, again and again.""",
        choices=("keyboard", "joystick", "scripted"),
        read_only=True,
    )
    output: str = parameter(
        "twist",
        """What is published: geometry_msgs/Twist or TwistStamped on cmd_vel, or on pose_cmd a
        PoseStamped relative to the camera for each frame (for lockstep).""",
        choices=("twist", "twist_stamped", "pose"),
        read_only=True,
    )
    rate: float = parameter(
        15.0,
        """Messages a second while the camera moves. In lockstep each is one frame: the frame rate
        of the model makes a second of keys a second of video.""",
        minimum=1.0,
        maximum=200.0,
        read_only=True,
    )
    linear_speed: float = parameter(
        0.5, "Speed in m/s at the start; keys change it.",
        minimum=0.001, maximum=1000.0, read_only=True,
    )  # fmt: skip
    angular_speed: float = parameter(
        0.5, "Speed in rad/s at the start; keys change it.",
        minimum=0.001, maximum=1000.0, read_only=True,
    )  # fmt: skip
    max_linear_speed: float = parameter(
        2.0, "Most that keys or a joystick give, in m/s.",
        minimum=0.001, maximum=1000.0, read_only=True,
    )  # fmt: skip
    max_angular_speed: float = parameter(
        2.0, "Most that keys or a joystick give, in rad/s.",
        minimum=0.001, maximum=1000.0, read_only=True,
    )  # fmt: skip
    linear_acceleration: float = parameter(
        2.0, "Limit in m/s² on starting and stopping.",
        minimum=0.001, maximum=1000.0, read_only=True,
    )  # fmt: skip
    angular_acceleration: float = parameter(
        4.0, "Limit in rad/s² on starting and stopping.",
        minimum=0.001, maximum=1000.0, read_only=True,
    )  # fmt: skip
    first_hold: float = parameter(
        0.6,
        """Seconds for which a key that was pressed once counts as held. Terminals send no
        release, and repeat a held key only after a delay: this must be longer than that delay.""",
        minimum=0.02,
        maximum=10.0,
        read_only=True,
    )
    repeat_hold: float = parameter(
        0.15,
        """Seconds after which a key that was repeating counts as released: longer than the time
        between two repeats, more over a slow connection.""",
        minimum=0.02,
        maximum=10.0,
        read_only=True,
    )
    frame_id: str = parameter(
        "",
        """frame_id of stamped messages; empty lets the simulator take its own camera frame for
        velocities, and takes camera_link for poses.""",
        read_only=True,
    )
    axis_forward: int = parameter(
        1, "Axis of the joystick for forward and back; -1: none.",
        minimum=-1, maximum=63, read_only=True,
    )  # fmt: skip
    axis_left: int = parameter(
        0, "Axis for left and right; -1: none.", minimum=-1, maximum=63, read_only=True
    )
    axis_up: int = parameter(
        -1, "Axis for up and down; -1: none.", minimum=-1, maximum=63, read_only=True
    )
    axis_turn: int = parameter(
        3, "Axis for turning left and right; -1: none.", minimum=-1, maximum=63, read_only=True
    )
    axis_tilt: int = parameter(
        4, "Axis for looking up and down; -1: none.", minimum=-1, maximum=63, read_only=True
    )
    dead_zone: float = parameter(
        0.1, "Part of an axis around its middle that counts as zero.",
        minimum=0.0, maximum=0.9, read_only=True,
    )  # fmt: skip
    enable_button: int = parameter(
        4, "Button of the joystick that must be held to move; -1: none.",
        minimum=-1, maximum=63, read_only=True,
    )  # fmt: skip
    joy_timeout: float = parameter(
        0.5, "Seconds without a Joy message after which the joystick counts as lost: stop.",
        minimum=0.02, maximum=60.0, read_only=True,
    )  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(as_markdown(TeleopSettings))
