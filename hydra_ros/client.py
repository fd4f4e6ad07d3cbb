# SPDX-License-Identifier: Apache-2.0
"""The simulator from a program or a notebook: imagine, commit, step, observe, save, load, reset.

    from hydra_ros.client import SimulatorClient

    with SimulatorClient() as simulator:
        futures = simulator.imagine(paths, frames="last", keep=True)
        simulator.commit(futures[0])

Poses are camera-to-world matrices [4, 4] in metres, as on the simulator's topics: of the
camera body (x forward, y left, z up) unless its ``pose_convention`` is ``optical``. Frames are
uint8 [N, H, W, 3] RGB. Needs neither PyTorch nor the model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nav_msgs.msg import Path
from rcl_interfaces.srv import GetParameters
from rclpy.node import Node
from std_msgs.msg import Header

from hydra_ros.action import Rollout
from hydra_ros.action_client import ActionClient
from hydra_ros.conversions import pose_from_message, pose_stamped_message
from hydra_ros.discovery import Discovery
from hydra_ros.environment import use_dds_profile
from hydra_ros.frame_collector import FrameCollector, ReceivedFrame
from hydra_ros.imagining import Future, Imagining, Progress, SimulatorError
from hydra_ros.msg import StateInfo
from hydra_ros.node_spinner import NodeSpinner
from hydra_ros.observer import Observer
from hydra_ros.srv import Commit, DeleteState, ListStates, LoadState, Reset, SaveState
from hydra_ros.state_watch import StateWatch
from hydra_ros.step_frames import StepFrames

PathLike = Path | Sequence[Any] | np.ndarray  # the latter two: poses [N, 4, 4]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Where the live camera is: pose [4, 4], simulated seconds."""

    pose: np.ndarray
    time: float


class SimulatorClient:
    """Talks to a ``hydra_simulator``.

    Without ``node`` it has a ROS context, a node and a spinning thread of its own. With a node
    of the user's it uses that one, which somebody has to spin on another thread: a call from
    one of that executor's own callbacks would wait for itself.

    Args:
        namespace: of the simulator; "" is the node's own.
        node: a node that is being spun, or None.
        name: the simulator's node name.
        timeout: longest wait for a service's answer, in seconds.
    """

    def __init__(
        self,
        namespace: str = "",
        *,
        node: Node | None = None,
        name: str = "hydra_simulator",
        timeout: float = 60.0,
    ) -> None:
        self.timeout = timeout
        self._spinner: NodeSpinner | None = None
        if node is None:
            use_dds_profile()
            self._spinner = NodeSpinner("hydra_client")
            node = self._spinner.node
        self._node = node
        self._namespace = namespace
        prefix = f"{namespace.rstrip('/')}/" if namespace else ""
        self._services: dict[type, Any] = {}
        self._camera_frame = ""  # not asked for yet
        self._prefix = f"{prefix}{name}"
        self._rollout = ActionClient(node, Rollout, f"{self._prefix}/rollout")
        self._path = node.create_publisher(Path, f"{prefix}path_cmd", 10)
        self._collector: FrameCollector | None = None
        self._discovery: Discovery | None = None  # of what the collector listens to
        self._observer: Observer | None = None
        self._frames: list[ReceivedFrame] = []
        self._came = threading.Condition()
        # Where the camera will be when all frames have come that were asked for before, [4, 4]:
        # of a commit or of a step that was not waited for. None where there is nothing to expect.
        self._leads_to: np.ndarray | None = None

    def __enter__(self) -> SimulatorClient:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Take back everything from the node, and end the thread if it is the client's own."""
        if self._spinner:
            self._spinner.close(self._destroy)
        else:
            self._destroy()

    def wait_for_simulator(self, timeout: float = 60.0) -> None:
        """Wait until the simulator is found, and runs the world that it starts by itself.

        Where its ``start_source`` is ``none``, there is no world yet: ``reset`` starts one.

        Raises:
            TimeoutError: it is not there in time, or not ready; the message has its state.
        """
        deadline = time.monotonic() + timeout
        reset = self._service(Reset, "reset")
        watch = StateWatch(self._node, self._prefix)
        try:
            while not (
                watch.ready
                and reset.service_is_ready()
                and self._rollout.server_is_ready()
                and self._path.get_subscription_count()
            ):
                if time.monotonic() > deadline:
                    state = f"is {watch.state}" if watch.state else "was not found"
                    raise TimeoutError(f"simulator {self._prefix!r} {state} after {timeout:g} s")
                time.sleep(0.05)
        finally:
            watch.destroy()

    # --- Futures ---

    def imagine(
        self,
        paths: Sequence[PathLike],
        *,
        timeout: float | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        **options: Any,
    ) -> list[Future]:
        """Return what the camera would see along each path; the live world stays as it is.

        ``options`` are those of ``start_imagining``, errors those of ``Imagining.result``.
        """
        return self.start_imagining(paths, **options).result(timeout, on_progress)

    def start_imagining(
        self,
        paths: Sequence[PathLike],
        *,
        samples: int = 1,
        state: str = "",
        frames: str | int = "all",
        encoding: str = "jpeg",
        priority: int = 0,
        seed: int = 0,
        keep: bool = False,
        relative: bool = False,
    ) -> Imagining:
        """Begin to imagine and return at once.

        ``paths`` are poses [N, 4, 4], one a frame, or ``nav_msgs/Path`` messages as ``path_cmd``
        takes them; ``relative`` poses are relative to where the camera is. ``state`` names a
        saved state to start from instead of the live world. ``frames`` is "all", "last" or n for
        every n-th. ``seed`` 0 takes the state's own. Futures that are to be committed need
        ``keep``.
        """
        self._need(self._rollout, f"{self._prefix}/rollout")
        frame_id = self._relative_frame() if relative else ""
        goal = Rollout.Goal(
            paths=[path_message(path, frame_id) for path in paths],
            samples=samples, state=state, encoding=encoding, priority=priority, seed=seed,
            keep=keep,
        )  # fmt: skip
        if isinstance(frames, int):
            goal.frames, goal.every_nth = Rollout.Goal.FRAMES_EVERY_NTH, frames
        else:
            choices = {"all": Rollout.Goal.FRAMES_ALL, "last": Rollout.Goal.FRAMES_LAST}
            if frames not in choices:
                raise ValueError(f"frames is {frames!r}; accepted: 'all', 'last' or a number")
            goal.frames = choices[frames]
        return Imagining(self._rollout, goal, self._wait)

    def commit(self, future: Future | str, frames: int = 0) -> Camera:
        """Make a kept future, or its first so many frames, the live world.

        Raises:
            SimulatorError: it is not kept any more, or ``frames`` lies within a chunk.
        """
        id = future if isinstance(future, str) else future.id
        answer = self._call(Commit, "commit", Commit.Request(id=id, frames=frames))
        self._leads_to = pose_from_message(answer.pose.pose)
        return Camera(pose=self._leads_to, time=answer.time)

    # --- The live world ---

    def reset(self, source: str = "", seed: int = 0, prompt: str = "") -> Camera:
        """Start a world; see the service ``~/reset``."""
        request = Reset.Request(source=source, seed=seed, prompt=prompt)
        answer = self._call(Reset, "reset", request)
        self._leads_to = None
        if self._observer:
            self._observer.begin()
        return Camera(pose=pose_from_message(answer.start_pose.pose), time=0.0)

    def step(
        self, poses: PathLike, *, relative: bool = False, timeout: float = 60.0
    ) -> list[ReceivedFrame]:
        """Let a lockstep simulator show one frame for each of the poses [N, 4, 4].

        ``timeout`` is the longest wait for one frame, in seconds; the first step waits for the
        simulator before that, as services do. Frames that are still coming of a commit, or of a
        step that ended in a ``TimeoutError``, are left out.

        Raises:
            TimeoutError: no frame for so long; the simulator may not be in lockstep, may be
                paused, or refused the path (its log says why). Or there is no simulator.
        """
        deadline = time.monotonic() + self.timeout
        while not (self._collects() and self._path.get_subscription_count()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no simulator was found at {self._path.topic_name!r}")
            time.sleep(0.02)
        message = path_message(poses, self._relative_frame() if relative else "")
        own = StepFrames(
            poses=None if isinstance(poses, Path) else np.asarray(poses, dtype=np.float64),
            relative=relative,
            start=self._leads_to,
        )
        self._leads_to = None
        with self._came:
            self._frames = []
            self._path.publish(message)
            for count in range(1, len(message.poses) + 1):
                if not self._came.wait_for(
                    lambda n=count: len(own.among(self._frames)) >= n, timeout
                ):
                    have = own.among(self._frames)
                    self._leads_to = own.end(have)
                    raise TimeoutError(
                        f"{len(have)} of {len(message.poses)} frames came, and then none "
                        f"for {timeout:g} s"
                    )
            return own.among(self._frames)[: len(message.poses)]

    def frames(self) -> list[ReceivedFrame]:
        """Return a list that fills with the frames of the camera, from now on."""
        deadline = time.monotonic() + self.timeout
        while not self._collects():
            if time.monotonic() > deadline:
                raise TimeoutError("no camera was found")
            time.sleep(0.02)
        with self._came:
            self._frames = []
            return self._frames

    def observe(
        self, frames: np.ndarray, poses: PathLike, *, rate: float = 15.0, timeout: float = 60.0
    ) -> np.ndarray:
        """Let the simulator remember what a real camera saw; return where it is then, [4, 4].

        ``frames`` uint8 [N, H, W, 3] RGB were seen from ``poses`` [N, 4, 4]. They follow each
        other, and those of the last call in the same world, at ``rate`` (1/s): simulated time
        passes with them, however late they come. At the model's rate they are remembered as its
        own frames are.

        Raises:
            ValueError: frames and poses that do not belong together.
            TimeoutError: not all were remembered in time; the simulator's log says why.
        """
        message = path_message(poses)
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise ValueError(
                f"frames are {frames.dtype} {list(frames.shape)}; accepted: uint8 [N, H, W, 3]"
            )
        if not 0 < len(frames) == len(message.poses):
            raise ValueError(f"there are {len(frames)} frames and {len(message.poses)} poses")
        if self._observer is None:
            self._observer = Observer(self._node, self._namespace, self._prefix)
        return self._observer.observe(frames, message.poses, rate, timeout)

    # --- States ---

    def save(self, name: str, *, overwrite: bool = False, persistent: bool = False) -> StateInfo:
        """Keep the live world under a name."""
        request = SaveState.Request(name=name, overwrite=overwrite, persistent=persistent)
        return self._call(SaveState, "save_state", request).state

    def load(self, name: str) -> StateInfo:
        """Make a saved state the live world."""
        self._leads_to = None
        return self._call(LoadState, "load_state", LoadState.Request(name=name)).state

    def delete(self, name: str) -> None:
        """Forget a saved state."""
        self._call(DeleteState, "delete_state", DeleteState.Request(name=name))

    def states(self) -> list[StateInfo]:
        """Return the saved states, oldest first."""
        return list(self._call(ListStates, "list_states", ListStates.Request()).states)

    # --- Waiting ---

    def _relative_frame(self) -> str:
        """Return the camera's frame as the simulator calls it; a namespace may be before it."""
        if not self._camera_frame:
            request = GetParameters.Request(names=["camera_frame"])
            answer = self._ask(GetParameters, "get_parameters", request)
            self._camera_frame = answer.values[0].string_value
        return self._camera_frame

    def _call(self, kind: type, name: str, request: Any) -> Any:
        answer = self._ask(kind, name, request)
        if not answer.success:
            raise SimulatorError(answer.message)
        return answer

    def _ask(self, kind: type, name: str, request: Any) -> Any:
        service = self._service(kind, name)
        self._need(service, service.srv_name)
        deadline = time.monotonic() + self.timeout
        return self._wait(service.call_async(request), deadline, f"no answer of {name}")

    def _service(self, kind: type, name: str) -> Any:
        if kind not in self._services:
            self._services[kind] = self._node.create_client(kind, f"{self._prefix}/{name}")
        return self._services[kind]

    def _need(self, client: Any, name: str) -> None:
        wait = getattr(client, "wait_for_service", None) or client.wait_for_server
        if not wait(timeout_sec=self.timeout):
            raise SimulatorError(f"{name} was not found in {self.timeout:g} s; does it run?")

    def _wait(self, future: Any, deadline: float | None, failure: str) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while not done.wait(0.1):
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{failure} in time; is the node's executor being spun?")
            if not self._node.context.ok():
                raise SimulatorError("ROS was shut down meanwhile")
        return future.result()

    def _collects(self) -> bool:
        """Return whether frames that are published from now on will come here."""
        if self._collector is None or self._discovery is None:
            self._collector = FrameCollector(self._node, self._take, self._namespace)
            self._discovery = Discovery(self._node, self._prefix)
        return self._collector.connected and self._discovery.done

    def _take(self, frame: ReceivedFrame) -> None:
        with self._came:
            self._frames.append(frame)
            self._came.notify_all()

    def _destroy(self) -> None:
        self._rollout.destroy()
        for service in self._services.values():
            self._node.destroy_client(service)
        self._node.destroy_publisher(self._path)
        for part in (self._collector, self._discovery, self._observer):
            if part:
                part.destroy()


def path_message(path: PathLike, frame_id: str = "") -> Path:
    """Return poses [N, 4, 4], one a frame, as a path message; a message stays as it is.

    Without ``frame_id``, the poses are in the simulator's world.
    """
    if isinstance(path, Path):
        return path
    poses = np.asarray(path, dtype=np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4):
        raise ValueError(f"a path has shape {poses.shape}; accepted: poses [N, 4, 4]")
    if not np.isfinite(poses).all():
        raise ValueError("a path holds a number that is not finite")
    header = Header(frame_id=frame_id)
    message = Path(header=header)
    message.poses = [pose_stamped_message(pose, header) for pose in poses]
    return message
