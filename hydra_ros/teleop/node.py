# SPDX-License-Identifier: Apache-2.0
"""``hydra_teleop``: drives the camera from a keyboard, a joystick or a script."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped, Vector3
from rclpy.duration import Duration
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Joy
from std_msgs.msg import Header

from hydra_ros import parameters
from hydra_ros.conversions import pose_to_message
from hydra_ros.environment import start_ros
from hydra_ros.teleop.joystick import joystick_direction
from hydra_ros.teleop.keys import DIRECTIONS, FASTER, HELP, QUIT, SLOWER, SPEED_STEP, STOP, HeldKeys
from hydra_ros.teleop.motion import Limits, look_away, next_velocity, scaled
from hydra_ros.teleop.parameters import TeleopSettings
from hydra_ros.teleop.terminal import NoTerminal, Terminal
from hydra_ros.trajectory import motion
from hydra_ros.unknown_parameters import warn_of_unknown_parameters

TOPICS = {
    "twist": (Twist, "cmd_vel"),
    "twist_stamped": (TwistStamped, "cmd_vel"),
    "pose": (PoseStamped, "pose_cmd"),
}
LAST_WORD_SECONDS = 2.0  # at most: a listener that hangs must not keep the terminal
NO_TERMINAL = 3
WRONG_PARAMETERS = 2


class Teleop:
    """Velocities out at a steady rate while the camera moves, then one zero, then nothing.

    In lockstep each message is one frame, so standing still must not send any.
    """

    def __init__(self, node: Node, settings: TeleopSettings) -> None:
        self._node = node
        self._settings = settings
        self._limits = Limits(
            linear_speed=settings.max_linear_speed,
            angular_speed=settings.max_angular_speed,
            linear_acceleration=settings.linear_acceleration,
            angular_acceleration=settings.angular_acceleration,
        )
        self.linear_speed = min(settings.linear_speed, settings.max_linear_speed)
        self.angular_speed = min(settings.angular_speed, settings.max_angular_speed)
        self.velocity = np.zeros(6)
        kind, topic = TOPICS[settings.output]
        self._publisher = node.create_publisher(kind, topic, 50)

    @property
    def listeners(self) -> int:
        return self._publisher.get_subscription_count()

    def change_speed(self, factor: float) -> None:
        """Make both speeds so many times as high, within the limits."""
        self.linear_speed = min(self.linear_speed * factor, self._limits.linear_speed)
        self.angular_speed = min(self.angular_speed * factor, self._limits.angular_speed)

    def step(self, direction: np.ndarray, seconds: float) -> None:
        """Go on for a period of so many seconds towards a direction [6]."""
        target = scaled(direction, self.linear_speed, self.angular_speed)
        self._move(next_velocity(self.velocity, target, self._limits, seconds))

    def stop(self) -> None:
        """Stop at once, whatever the limit on acceleration."""
        self._move(np.zeros(6))

    def end(self) -> None:
        """Stop, and wait until that is known to all who listen: a camera must not run on."""
        self.stop()
        self._publisher.wait_for_all_acked(Duration(seconds=LAST_WORD_SECONDS))

    def _move(self, velocity: np.ndarray) -> None:
        moved = self.velocity.any()
        self.velocity = velocity
        if moved or velocity.any():
            self._publisher.publish(self._message())

    def _message(self) -> Twist | TwistStamped | PoseStamped:
        linear, angular = self.velocity[:3], self.velocity[3:]
        header = Header(
            stamp=self._node.get_clock().now().to_msg(), frame_id=self._settings.frame_id
        )
        if self._settings.output == "pose":
            header.frame_id = header.frame_id or "camera_link"
            step = motion(linear, angular, 1.0 / self._settings.rate)
            return PoseStamped(header=header, pose=pose_to_message(step))
        twist = Twist(linear=_vector(linear), angular=_vector(angular))
        if self._settings.output == "twist":
            return twist
        return TwistStamped(header=header, twist=twist)


class Joystick:
    """The direction that the last Joy message holds; none when it is too old."""

    def __init__(self, node: Node, settings: TeleopSettings) -> None:
        self._node = node
        self._settings = settings
        self._direction = np.zeros(6)
        self._seen = -float("inf")
        node.create_subscription(Joy, "joy", self._take, 10)

    @property
    def connected(self) -> bool:
        return time.monotonic() - self._seen <= self._settings.joy_timeout

    @property
    def direction(self) -> np.ndarray:
        return self._direction if self.connected else np.zeros(6)

    def _take(self, message: Joy) -> None:
        self._seen = time.monotonic()
        try:
            self._direction = joystick_direction(message.axes, message.buttons, self._settings)
        except ValueError as error:
            self._direction = np.zeros(6)
            self._node.get_logger().warning(str(error), throttle_duration_sec=10.0)


def drive(
    teleop: Teleop,
    direction: Callable[[], np.ndarray | None],
    rate: float,
    spin: Callable[[], None],
) -> None:
    """Step at a steady rate until ``direction`` gives None; ``spin`` serves ROS meanwhile."""
    period, due = 1.0 / rate, time.monotonic()
    while (wanted := direction()) is not None:
        now = time.monotonic()
        if now >= due:
            teleop.step(wanted, period)
            due = max(due + period, now)  # late ones are not made up for
        spin()


def drive_by_keys(
    teleop: Teleop, settings: TeleopSettings, terminal: Terminal, spin: Callable[[], None]
) -> None:
    """Drive until a key says to quit."""
    held = HeldKeys(first_hold=settings.first_hold, repeat_hold=settings.repeat_hold)
    terminal.write(f"{HELP}\n\n")
    short = 0.25 / settings.rate

    def direction() -> np.ndarray | None:
        now = time.monotonic()
        for key in terminal.keys(short):
            if key in QUIT:
                return None
            if key in STOP:
                held.release_all()
                teleop.stop()
            elif key in FASTER:
                teleop.change_speed(SPEED_STEP)
            elif key in SLOWER:
                teleop.change_speed(1.0 / SPEED_STEP)
            elif key in DIRECTIONS:
                held.press(key, now)
        terminal.status(status_line(teleop))
        return held.direction(time.monotonic())

    drive(teleop, direction, settings.rate, spin)


def status_line(teleop: Teleop) -> str:
    """Return the line below the help: limits, velocity, and whether a simulator listens."""
    numbers = " ".join(f"{value + 0.0:+.2f}" for value in teleop.velocity)
    listens = "" if teleop.listeners else "  no listener"  # this fits into 80 columns
    return (
        f"speed {teleop.linear_speed:.2f} m/s {teleop.angular_speed:.2f} rad/s  "
        f"now {numbers}{listens}"
    )


def _ignore_further_interrupts() -> None:
    # Under `ros2 launch`, Ctrl-C comes twice: from the terminal and from the launch tool.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _terminal_closed(_number: int, _frame: object) -> None:
    raise NoTerminal("the terminal was closed")


def _vector(values: np.ndarray) -> Vector3:
    x, y, z = (float(value) for value in values)
    return Vector3(x=x, y=y, z=z)


def _run(node: Node, settings: TeleopSettings, context: ExitStack) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    teleop = Teleop(node, settings)
    # Whatever ends it, the last thing said is to stop.
    context.callback(teleop.end)
    if settings.input == "keyboard":
        terminal = context.enter_context(Terminal())
        context.callback(_ignore_further_interrupts)
        drive_by_keys(teleop, settings, terminal, lambda: executor.spin_once(timeout_sec=0.0))
        return
    context.callback(_ignore_further_interrupts)

    def spin() -> None:
        executor.spin_once(timeout_sec=0.25 / settings.rate)

    if settings.input == "joystick":
        joystick = Joystick(node, settings)
        drive(teleop, lambda: joystick.direction, settings.rate, spin)
    started = None

    def scripted() -> np.ndarray:
        nonlocal started
        if teleop.listeners and started is None:
            started = time.monotonic()
        return np.zeros(6) if started is None else look_away(time.monotonic() - started)

    drive(teleop, scripted, settings.rate, spin)


def main(args: list[str] | None = None) -> int:
    """Drive until q or Ctrl-C (0); wrong parameters are 2, no terminal (any more) is 3."""
    # Our own handling of signals: after rclpy's, nothing could be published any more, and
    # SIGTERM and a closed terminal must put the terminal back and stop the camera, too.
    try:
        start_ros(args, signal_handler_options=rclpy.SignalHandlerOptions.NO)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        signal.signal(signal.SIGHUP, _terminal_closed)
        with ExitStack() as context:
            context.callback(rclpy.try_shutdown)
            node = rclpy.create_node("hydra_teleop")
            context.callback(node.destroy_node)
            parameters.declare(node, TeleopSettings)
            warn_of_unknown_parameters(node)
            _run(node, parameters.read(node, TeleopSettings), context)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    except NoTerminal as error:
        try:
            print(f"hydra_teleop: {error}", file=sys.stderr, flush=True)
        except OSError:  # stderr has gone with the terminal
            # What it still holds would fail again at the end, and make Python's exit code 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        return NO_TERMINAL
    except (
        InvalidParameterTypeException,
        InvalidParameterValueException,
        ValueError,
    ) as error:
        print(f"hydra_teleop: {error}", file=sys.stderr)
        return WRONG_PARAMETERS
    return 0


if __name__ == "__main__":
    sys.exit(main())
