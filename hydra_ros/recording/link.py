# SPDX-License-Identifier: Apache-2.0
"""A running simulator, as the commands that use bags see it: parameters, resets, paths."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python

from hydra_model.config import ModelConfig
from hydra_model.resources import weights_folder
from hydra_ros.conversions import (
    body_to_optical,
    optical_to_body,
    pose_from_message,
    pose_to_message,
)
from hydra_ros.demo.node_process import NodeError
from hydra_ros.srv import Reset

SIMULATOR = "hydra_simulator"


@dataclass(frozen=True, kw_only=True)
class VideoForm:
    """What a simulator makes of video: rate in Hz, frames of context; of its model, if known."""

    fps: float = 15.0
    context_frames: int = 77
    known: bool = False


class SimulatorLink:
    """Commands to the simulator of a namespace; a context manager.

    Args:
        namespace: where the simulator is.
        timeout: longest wait for it to be found, or to answer, in seconds.
        waiting: called now and then while waiting; may raise to give up.
    """

    def __init__(self, namespace: str, timeout: float, waiting: Callable[[], None]) -> None:
        self._timeout = timeout
        self._waiting = waiting
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self.node: Node = rclpy.create_node(
            "hydra_bag", namespace=namespace, context=self._context, use_global_arguments=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._reset = self.node.create_client(Reset, f"{SIMULATOR}/reset")
        self._get = self.node.create_client(GetParameters, f"{SIMULATOR}/get_parameters")
        self._set = self.node.create_client(SetParameters, f"{SIMULATOR}/set_parameters")
        self._path = self.node.create_publisher(PathMessage, "path_cmd", 10)

    def __enter__(self) -> SimulatorLink:
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def connect(self) -> None:
        """Wait until the simulator is found.

        Raises:
            TimeoutError: it is not.
        """
        name = f"{self.node.get_namespace().rstrip('/')}/{SIMULATOR}"
        self.wait(
            lambda: (
                all(client.service_is_ready() for client in (self._reset, self._get, self._set))
                and self._path.get_subscription_count() > 0
            ),
            f"the simulator {name} was not found",
        )

    def parameters(self, names: Sequence[str]) -> dict[str, Any]:
        """Return values of the simulator's parameters."""
        response = self._call(self._get, GetParameters.Request(names=list(names)))
        values = map(parameter_value_to_python, response.values)
        return dict(zip(names, values, strict=True))

    def set_parameter(self, name: str, value: Any, timeout: float | None = None) -> None:
        """Change a parameter, in ``timeout`` seconds where they are given.

        Raises:
            NodeError: the simulator refuses it, with its reason.
        """
        parameter = Parameter(name, value=value).to_parameter_msg()
        response = self._call(
            self._set, SetParameters.Request(parameters=[parameter]), timeout
        )
        if not response.results[0].successful:
            raise NodeError(f"{name} cannot be set: {response.results[0].reason}")

    def video_form(self) -> VideoForm:
        """Return the form of the model's video, as far as its folder can be read from here."""
        config = self._model_config()
        if config is None:
            return VideoForm()
        return VideoForm(fps=config.video.fps, context_frames=config.context_frames, known=True)

    def reset(self, source: str, seed: int, prompt: str) -> tuple[np.ndarray, str]:
        """Start a world; return the optical pose [4, 4] it begins at, and what world it is.

        Raises:
            NodeError: the simulator refuses, with its reason.
        """
        response = self._call(self._reset, Reset.Request(source=source, seed=seed, prompt=prompt))
        if not response.success:
            raise NodeError(f"the simulator refuses the reset: {response.message}")
        pose = pose_from_message(response.start_pose.pose)
        optical = self.parameters(["pose_convention"])["pose_convention"] == "optical"
        return pose if optical else body_to_optical(pose), response.message

    def send_path(self, poses: np.ndarray) -> None:
        """Command optical poses [N, 4, 4] in the world frame, one for each of the next frames."""
        optical = self.parameters(["pose_convention"])["pose_convention"] == "optical"
        shown = poses if optical else optical_to_body(poses)
        # Without stamps, one pose is one frame; without a frame_id, it is the world's.
        self._path.publish(
            PathMessage(poses=[PoseStamped(pose=pose_to_message(pose)) for pose in shown])
        )

    def wait(self, done: Callable[[], bool], failure: str, timeout: float | None = None) -> None:
        """Serve ROS until something is done.

        Raises:
            TimeoutError: it is not in time; ``failure`` says what.
        """
        timeout = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        while not done():
            self._waiting()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{failure} (waited {timeout:g} s)")
            self._executor.spin_once(timeout_sec=0.05)

    def _model_config(self) -> ModelConfig | None:
        model = self.parameters(["model"])["model"]
        try:
            folder = weights_folder() if model == "default" else Path(model)
            # Not by hydra_model.checkpoints, which loads PyTorch: that takes seconds.
            return ModelConfig.from_json((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it runs on another machine
            return None

    def _call(self, client: Any, request: Any, timeout: float | None = None) -> Any:
        answer = client.call_async(request)
        self.wait(answer.done, f"{client.srv_name} did not answer", timeout)
        return answer.result()


def with_changes(form: VideoForm, fps: float | None, context_frames: int | None) -> VideoForm:
    """Return the form with what a user gave in place of what was found."""
    changes: dict[str, Any] = {}
    if fps is not None:
        changes["fps"] = fps
    if context_frames is not None:
        changes["context_frames"] = context_frames
    return dataclasses.replace(form, **changes)
