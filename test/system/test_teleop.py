# SPDX-License-Identifier: Apache-2.0
"""``hydra_teleop`` in a process of its own: typed at through a pseudo-terminal, heard over DDS."""

import contextlib
import signal
import subprocess
import termios
import time

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from sensor_msgs.msg import Joy
from system.simulator import wait_until
from system.typist import TELEOP, teleop_command, typing_at


@contextlib.contextmanager
def teleop(namespace: str, *, stdin_is_terminal: bool = True, term: str = "xterm", **parameters):
    command = teleop_command(namespace, **parameters)
    with typing_at(command, stdin_is_terminal=stdin_is_terminal, term=term) as typist:
        yield typist


@pytest.fixture(scope="module")
def driven(listener):
    """One teleop that most tests type at, and the twists that it sends."""
    twists = listener.listen(Twist, "/typed/cmd_vel")
    with teleop(
        "/typed", linear_speed=0.5, linear_acceleration=1.0, max_linear_speed=0.6
    ) as typist:
        typist.hold(b"d", lambda: len(twists) > 5, "listener")
        wait_until(lambda: not twists[-1].linear.y, "standstill")
        typist.twists = twists
        yield typist


def test_it_shows_the_keys_and_the_state(driven):
    assert b"forward, back" in driven.screen
    assert b"speed 0.50 m/s" in driven.screen


def test_a_held_key_accelerates_to_its_speed_and_a_release_stops_with_one_zero(driven):
    twists = driven.twists
    twists.clear()
    driven.hold(b"w", lambda: twists and twists[-1].linear.x == 0.5, "full speed")
    speeds = [twist.linear.x for twist in twists]
    assert np.diff([0.0, *speeds]).max() <= 1.0 / 15 + 1e-9
    wait_until(lambda: twists[-1].linear.x == 0.0, "standstill")
    count = len(twists)
    time.sleep(0.5)
    assert len(twists) == count  # in lockstep each message would be a frame
    assert sum(twist.linear.x == 0.0 for twist in twists) == 1


def test_a_single_press_is_bridged_to_the_first_repeat(driven):
    driven.twists.clear()
    started = time.monotonic()
    driven.type(b"\x1b[D")
    wait_until(lambda: driven.twists and driven.twists[-1].angular.z == 0.0, "standstill")
    assert time.monotonic() - started > 0.6
    assert max(twist.angular.z for twist in driven.twists) == 0.5


def test_space_stops_at_once(driven):
    twists = driven.twists
    twists.clear()
    driven.hold(b"w", lambda: twists and twists[-1].linear.x == 0.5, "full speed")
    driven.type(b" ")
    wait_until(lambda: twists[-1].linear.x == 0.0, "standstill")
    assert twists[-2].linear.x == 0.5


def test_speed_keys_stay_below_the_limit(driven):
    driven.type(b"+++")
    wait_until(lambda: b"speed 0.60 m/s" in driven.screen, "limit")
    driven.type(b"-" * 5)
    wait_until(lambda: b"speed 0.20 m/s" in driven.screen, "lower speed")


def test_q_ends_it_and_puts_the_terminal_back(listener):
    twists = listener.listen(TwistStamped, "/quit/cmd_vel")
    with teleop("/quit", output="twist_stamped") as typist:
        typist.hold(b"w", lambda: len(twists) > 2, "twists")
        assert twists[-1].header.stamp.sec > 0
        assert not termios.tcgetattr(typist.slave)[3] & termios.ECHO
        typist.type(b"q")
        assert typist.process.wait(20) == 0
        assert termios.tcgetattr(typist.slave) == typist.before
        wait_until(lambda: twists[-1].twist.linear.x == 0.0, "last word to stop")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_puts_the_terminal_back_too(number):
    # Without a terminal as standard input, as under `ros2 launch`: it takes that of the session.
    with teleop("/signalled", stdin_is_terminal=False) as typist:
        typist.process.send_signal(number)
        typist.process.send_signal(number)  # Ctrl-C comes twice under `ros2 launch`
        assert typist.process.wait(20) == 0
        assert termios.tcgetattr(typist.slave) == typist.before


def test_a_terminal_without_colours_gets_lines_and_no_control_sequences():
    with teleop("/plain", term="dumb") as typist:
        typist.type(b"+")
        wait_until(lambda: b"speed 0.62 m/s" in typist.screen, "line")
        assert b"+0.00  no listener\r\n" in typist.screen
        typist.type(b"q")
        assert typist.process.wait(20) == 0
        assert b"\x1b" not in typist.screen


def test_a_terminal_that_closes_ends_it_with_3():
    with teleop("/closed") as typist:
        typist.close()
        assert typist.process.wait(20) == 3


def test_without_a_terminal_it_is_one_line_and_exit_code_3():
    done = subprocess.run(
        TELEOP, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
    )
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert line.startswith("hydra_teleop: there is no terminal")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-p", "output:=sideways"], "output is 'sideways'; accepted: twist, twist_stamped"),
        (["-p", "output:="], "-p output:="),
        (["--params-file", "nope.yaml"], "nope.yaml"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line_and_exit_code_2(arguments, words):
    done = subprocess.run(
        [*TELEOP, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    # rcl may have said a word of its own before.
    (line,) = [line for line in done.stderr.splitlines() if "[rcl]" not in line]
    assert line.startswith("hydra_teleop: ") and words in line


def test_a_joystick_gives_poses_and_is_stopped_when_it_falls_silent(listener):
    poses = listener.listen(PoseStamped, "/stick/pose_cmd")
    publisher = listener.node.create_publisher(Joy, "/stick/joy", 10)
    arguments = ["-r", "__ns:=/stick", "-p", "input:=joystick", "-p", "output:=pose"]
    process = subprocess.Popen([*TELEOP, *arguments], stdin=subprocess.DEVNULL)
    message = Joy(axes=[0.0, 1.0, 0.0, 0.0, 0.0], buttons=[0, 0, 0, 0, 1])
    try:

        def moving() -> bool:
            publisher.publish(message)
            time.sleep(0.05)
            return poses and poses[-1].pose.position.x > 0.5 / 15 - 1e-6

        wait_until(moving, "forward motion")
        assert poses[-1].header.frame_id == "camera_link"
        wait_until(lambda: poses[-1].pose.position.x == 0.0, "standstill")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
