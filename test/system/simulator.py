# SPDX-License-Identifier: Apache-2.0
"""The node in a process of its own, and a ROS client that drives it as a user's program would."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, Twist, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from starter import Starter

from hydra_ros import conversions
from hydra_ros.discovery import Discovery
from hydra_ros.srv import Reset

NODE = "hydra_simulator"
KEEP_ALL = QoSProfile(depth=500)


BEFORE_TESTS = dict(os.environ)  # which may change it


@functools.cache
def starter() -> Starter:
    """The starter of all simulators of this test process."""
    folder = Path(tempfile.mkdtemp(prefix="hydra_ros_started_"))
    made = Starter(folder, BEFORE_TESTS)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(made.close)  # the last is called first
    return made


class SimulatorProcess:
    """``hydra_simulator`` in a process of its own, with its log."""

    running: ClassVar[list[SimulatorProcess]] = []

    def __init__(self, parameters: dict[str, Any], namespace: str) -> None:
        self.namespace = namespace
        arguments = ["--ros-args", "-r", f"__ns:={namespace}"]
        for name, value in parameters.items():
            # Quoted where it is a string: a folder may be called "1".
            text = f"'{value}'" if isinstance(value, str | Path) else str(value).lower()
            arguments += ["-p", f"{name}:={text}"]
        words = ["hydra_simulator", *arguments]
        if os.environ.get("LD_LIBRARY_PATH") != BEFORE_TESTS.get("LD_LIBRARY_PATH"):
            # It is read when a program is executed, which a started one is not.
            words = ["env", sys.executable, "-m", "hydra_ros.simulator_node", *arguments]
        self._process = starter().start(words, Path.cwd(), environment=os.environ)
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.running.append(self)

    def logged(self, words: str, since: int = 0) -> list[str]:
        """Return the lines of the log, from line ``since`` on, that have these words."""
        return [line for line in self.log[since:] if words in line]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.running

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def interrupt(self, number: int = signal.SIGINT, timeout: float = 30.0) -> int:
        """Send a signal and return the exit code."""
        self.send_signal(number)
        code = self._process.wait(timeout)
        self._reader.join(5)
        return code

    def end(self) -> None:
        """End it by any means."""
        self._process.kill()
        if self in self.running:
            self.running.remove(self)

    def _read(self) -> None:
        line = ""
        with self._process.log.open(errors="replace") as log:
            while True:
                running = self.alive
                line += log.readline()
                if line.endswith("\n"):
                    self.log.append(line.rstrip())
                    line = ""
                elif not running:
                    break
                else:
                    time.sleep(0.02)


class Client:
    """Commands out, frames in; spins on a thread of its own."""

    running: ClassVar[list[Client]] = []

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("driver", context=self._context, namespace=namespace)
        self.images: list[Image] = []
        self.compressed: list[CompressedImage] = []
        self.infos: list[CameraInfo] = []
        self.poses: list[PoseStamped] = []
        self.clocks: list[Clock] = []
        self.diagnostics: dict[str, str] = {}
        node = self._node
        node.create_subscription(Image, "camera/image_raw", self.images.append, KEEP_ALL)
        node.create_subscription(CameraInfo, "camera/camera_info", self.infos.append, KEEP_ALL)
        node.create_subscription(PoseStamped, "camera/pose", self.poses.append, KEEP_ALL)
        node.create_subscription(
            CompressedImage, "camera/image_raw/compressed", self.compressed.append, KEEP_ALL
        )
        node.create_subscription(Clock, "/clock", self.clocks.append, KEEP_ALL)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnosed, 10)
        self.pose_cmd = node.create_publisher(PoseStamped, "pose_cmd", 200)
        self.path_cmd = node.create_publisher(PathMessage, "path_cmd", 10)
        self._reset = node.create_client(Reset, f"{NODE}/reset")
        self._change_state = node.create_client(ChangeState, f"{NODE}/change_state")
        self._get_state = node.create_client(GetState, f"{NODE}/get_state")
        self._set_parameters = node.create_client(SetParameters, f"{NODE}/set_parameters")
        self._get_parameters = node.create_client(GetParameters, f"{NODE}/get_parameters")
        self._services: dict[str, Any] = {}
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        self.running.append(self)

    def close(self) -> None:
        self.running.remove(self)
        rclpy.shutdown(context=self._context)
        self._thread.join(10)

    def wait_connected(self) -> None:
        """Wait until every topic and service has found the node, and it has found them."""
        node = self._node
        for service in (self._reset, self._get_state, self._change_state, self._set_parameters):
            assert service.wait_for_service(30), service.srv_name
        for topic in ("camera/image_raw", "camera/camera_info", "camera/pose"):
            wait_until(lambda topic=topic: node.count_publishers(topic), f"publisher of {topic}")
        for command in (self.pose_cmd, self.path_cmd):
            wait_until(command.get_subscription_count, f"subscriber of {command.topic}")
        discovery = Discovery(node, NODE)
        wait_until(lambda: discovery.done, "answer to what was made last")

    def velocity_publisher(self, kind: type[Twist] | type[TwistStamped]):
        publisher = self._node.create_publisher(kind, "cmd_vel", 50)
        wait_until(publisher.get_subscription_count, f"subscriber of cmd_vel as {kind.__name__}")
        return publisher

    def publisher(self, kind: type, topic: str) -> Any:
        """Return a publisher that the node hears."""
        publisher = self._node.create_publisher(kind, topic, 50)
        wait_until(publisher.get_subscription_count, f"subscriber of {topic}")
        return publisher

    def listen(self, kind: type, topic: str) -> list:
        """Return a list that fills with the messages of a topic."""
        received: list = []
        subscription = self._node.create_subscription(kind, topic, received.append, KEEP_ALL)
        wait_until(lambda: self._node.count_publishers(subscription.topic_name), topic)
        discovery = Discovery(self._node, NODE)
        wait_until(lambda: discovery.done, "answer to what was made last")
        return received

    def published(self, topic: str) -> list[str]:
        """Return the types with which a topic is published."""
        found = self._node.get_publishers_info_by_topic(self._node.resolve_topic_name(topic))
        return [publisher.topic_type for publisher in found]

    def remove(self, publisher) -> None:
        self._node.destroy_publisher(publisher)

    def reset(self, source: str = "", seed: int = 0, timeout: float = 60.0) -> Reset.Response:
        """Start a world and forget the frames of the one before."""
        response = self._call(self._reset, Reset.Request(source=source, seed=seed), timeout)
        if response.success:
            self.forget()
        return response

    def reset_soon(self, source: str, seed: int) -> Any:
        """Ask for a world and return the future of the answer."""
        return self._reset.call_async(Reset.Request(source=source, seed=seed))

    def forget(self) -> None:
        """Forget the frames that came so far."""
        for received in (self.images, self.compressed, self.infos, self.poses, self.clocks):
            received.clear()

    def call(self, kind: type, service: str, timeout: float = 60.0, **fields: Any) -> Any:
        """Call a private service of the node and return its response."""
        if service not in self._services:
            self._services[service] = self._node.create_client(kind, f"{NODE}/{service}")
            assert self._services[service].wait_for_service(30), service
        return self._call(self._services[service], kind.Request(**fields), timeout)

    def change_state(self, transition: int, label: str = "") -> bool:
        request = ChangeState.Request(transition=Transition(id=transition, label=label))
        return self._call(self._change_state, request, 60.0).success

    @property
    def state(self) -> str:
        return self._call(self._get_state, GetState.Request(), 10.0).current_state.label

    def set_parameter(self, name: str, value: Any) -> tuple[bool, str]:
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        result = self._call(self._set_parameters, request, 10.0).results[0]
        return result.successful, result.reason

    def parameter(self, name: str) -> Any:
        """Return the value of a parameter."""
        request = GetParameters.Request(names=[name])
        (value,) = self._call(self._get_parameters, request, 10.0).values
        return parameter_value_to_python(value)

    def wait_frames(self, count: int, timeout: float = 60.0) -> np.ndarray:
        """Wait for exactly so many frames: for the last one, and a little for one too many."""
        wait_until(
            lambda: min(map(len, (self.images, self.infos, self.poses))) >= count,
            f"{count} frames (have {len(self.images)})",
            timeout,
        )
        time.sleep(0.3)
        arrived = [len(self.images), len(self.infos), len(self.poses)]
        assert arrived == [count] * 3, arrived
        return np.stack([conversions.image_from_message(image) for image in self.images])

    def shown_poses(self) -> np.ndarray:
        """Return the camera body's poses [N, 4, 4] of the frames that came."""
        return np.stack([conversions.pose_from_message(message.pose) for message in self.poses])

    def _call(self, client: Any, request: Any, timeout: float) -> Any:
        future = client.call_async(request)
        wait_until(future.done, f"answer of {client.srv_name}", timeout)
        return future.result()

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics = {pair.key: pair.value for pair in status.values}

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> None:
    """Wait until a condition holds, or fail and say what did not happen."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"after {timeout} s there is no {what}"
        time.sleep(0.02)


def pose_message(body: np.ndarray, frame: str = "map", stamp: float = 0.0) -> PoseStamped:
    message = PoseStamped(pose=conversions.pose_to_message(body))
    message.header.frame_id = frame
    message.header.stamp = conversions.time_message(round(stamp * 1e9))
    return message


def path_message(
    bodies: Iterable[np.ndarray], frame: str = "map", times: Iterable[float] | None = None
) -> PathMessage:
    bodies = list(bodies)
    stamps = list(times) if times is not None else [0.0] * len(bodies)
    poses = [pose_message(body, frame, stamp) for body, stamp in zip(bodies, stamps, strict=True)]
    message = PathMessage(poses=poses)
    message.header.frame_id = frame
    return message
