# SPDX-License-Identifier: Apache-2.0
"""The demonstration from start to end: node, camera path over DDS, ground truth, pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from hydra_model.checkpoints import load_config
from hydra_model.config import ModelConfig
from hydra_model.evaluation.metrics import clip_psnr
from hydra_model.procedural import Episode, episode
from hydra_model.resources import weights_folder
from hydra_model.video import write_video
from hydra_ros.conversions import NANOSECONDS
from hydra_ros.demo.client import Client, same_pose
from hydra_ros.demo.node_process import NodeError, NodeProcess
from hydra_ros.demo.pictures import Comparison, demo_sheet, demo_video
from hydra_ros.demo.scene import FAMILY, Scene, find_scene, subjects_in_sight
from hydra_ros.frame_collector import ReceivedFrame
from hydra_ros.progress import ProgressReport


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """What to show, with which model, and where to write it; see ``hydra-ros demo --help``."""

    seed: int
    model: str
    device: str
    frames: int
    steps: int
    output: Path
    realtime: bool
    timeout: float

    @property
    def log(self) -> Path:
        """File of what the node prints."""
        return self.output / "demo_node.log"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Frames received, seconds of each part, PSNR in dB (also of the last frame repeated)."""

    received: int
    first_frame_after: float  # seconds from the command
    seconds: dict[str, float]
    psnr: float
    psnr_of_last_frame: float
    node_exit_code: int
    video: Path
    sheet: Path


def demonstrate(options: Demonstration, report: ProgressReport) -> Outcome:
    """Run the demonstration and write ``demo.mp4`` and ``demo.png``.

    Raises:
        NodeError: the node ended early or refuses.
        TimeoutError: nothing came from it for ``options.timeout`` seconds.
        ValueError: wrong options or model folder.
    """
    config = _config(options.model)
    video = config.video
    report.stage("Looking for a world in which a subject leaves and comes back")
    scene = find_scene(
        options.seed, options.frames, height=video.height, width=video.width,
        fps=video.fps, fov_x=video.fov_x, context=config.context_frames, style=config.world_style,
    )  # fmt: skip
    report.say(
        f"World {scene.seed}: out of sight {scene.gone:.1f} s before the context ends, "
        f"back {scene.back:.1f} s after it"
    )
    options.output.mkdir(parents=True, exist_ok=True)
    drive = _drive(options, config, scene, report)

    started = time.monotonic()
    report.stage("Rendering the ground truth")
    times = _simulated_times(drive.frames, scene, video.fps, options.realtime)
    shown, psnr, psnr_of_last_frame = _compare(drive.world, drive.frames, times)
    report.stage("Writing the video and the contact sheet")
    video_path, sheet_path = options.output / "demo.mp4", options.output / "demo.png"
    write_video(video_path, demo_video(shown), video.fps)
    _write_picture(sheet_path, demo_sheet(shown))
    drive.seconds["ground truth and pictures"] = time.monotonic() - started
    return Outcome(
        received=len(drive.frames),
        first_frame_after=drive.first_frame_after,
        seconds=drive.seconds,
        psnr=psnr,
        psnr_of_last_frame=psnr_of_last_frame,
        node_exit_code=drive.exit_code,
        video=video_path,
        sheet=sheet_path,
    )


class _Drive(NamedTuple):
    world: Episode
    frames: list[ReceivedFrame]
    first_frame_after: float
    seconds: dict[str, float]
    exit_code: int


def _drive(
    options: Demonstration, config: ModelConfig, scene: Scene, report: ProgressReport
) -> _Drive:
    """Start the node, command the path, collect the frames and stop the node."""
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal started
        seconds[name] = time.monotonic() - started
        started = time.monotonic()

    # A namespace of its own: another simulator may run on the same network.
    namespace = f"/hydra_demo_{os.getpid()}"
    parameters = {
        "mode": "realtime" if options.realtime else "lockstep",
        "model": options.model,
        "device": options.device,
        "sampler_steps": options.steps,
        "start_source": "none",  # the reset below starts the one world that is shown
        "procedural_family": FAMILY,
        "max_pending_frames": max(1500, options.frames),
    }
    started = time.monotonic()
    report.stage("Starting the node")
    node = NodeProcess(namespace, parameters, options.log)
    with node, Client(namespace, node.check) as client:
        world = _episode(scene, config)
        client.wait_for_node(options.timeout, report.update)
        lap("finding the node")
        report.stage("Loading the model and starting the world")
        try:
            start = client.reset("procedural", scene.seed, options.timeout, report.update)
        except NodeError as error:
            raise NodeError(f"{error}{node.last_words()}") from None
        if not same_pose(start, world.context_poses[-1]):
            raise NodeError(f"the node started another world than {scene.seed}")
        lap("loading the model and starting the world")
        report.stage("Frames received", total=options.frames)
        client.send_path(scene.path, config.video.fps)
        frames = client.receive(
            options.frames,
            options.timeout,
            lambda done: report.update(min(done, options.frames)),
            # Time went on before the path could be followed: see all of it nevertheless.
            until=scene.path[-1] if options.realtime else None,
        )
        first_frame_after = client.first_frame_at - started
        lap("receiving frames")
        report.stage("Stopping the node")
        exit_code = node.stop()
        lap("stopping the node")
    return _Drive(world, frames, first_frame_after, seconds, exit_code)


def _config(model: str) -> ModelConfig:
    return load_config(weights_folder() if model == "default" else Path(model))


def _episode(scene: Scene, config: ModelConfig) -> Episode:
    video = config.video
    with _one_thread():  # the node needs the others
        return episode(
            scene.seed, family=FAMILY, style=config.world_style,
            context_frames=config.context_frames, target_frames=0,
            height=video.height, width=video.width, fov_x=video.fov_x, fps=video.fps,
        )  # fmt: skip


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _simulated_times(
    frames: list[ReceivedFrame], scene: Scene, fps: float, realtime: bool
) -> np.ndarray:
    """Return each frame's simulated time [N] in seconds since the context's end.

    In lockstep the stamps tell it, and the poses that came back are compared with the commanded
    ones. In realtime stamps are the wall clock's, so frames are counted.
    """
    if realtime:
        return np.arange(1, len(frames) + 1) / fps
    since_first = np.array([frame.stamp - frames[0].stamp for frame in frames]) / NANOSECONDS
    index = np.round(since_first * fps).astype(int)
    poses = np.stack([frame.pose for frame in frames])
    if index[-1] >= len(scene.path) or not same_pose(poses, scene.path[index]):
        raise NodeError("the frames that arrived do not follow the commanded path")
    return (index + 1) / fps


def _compare(
    world: Episode, frames: list[ReceivedFrame], times: np.ndarray
) -> tuple[Comparison, float, float]:
    """Render the truth for the poses that came; return it all with both PSNRs."""
    prediction = np.stack([frame.image for frame in frames])
    poses = np.stack([frame.pose for frame in frames])
    truth, masks = world.render(poses, times)
    shown = Comparison(
        context=world.context_frames,
        context_times=world.context_times,
        context_seen=subjects_in_sight(world.context_masks).any(axis=0),
        truth=truth,
        prediction=prediction,
        times=times,
        seen=subjects_in_sight(masks).any(axis=0),
    )
    repeated = np.repeat(world.context_frames[-1:], len(frames), axis=0)
    psnr, psnr_of_last_frame = (
        float(clip_psnr(torch.from_numpy(guess), torch.from_numpy(truth)))
        for guess in (prediction, repeated)
    )
    return shown, psnr, psnr_of_last_frame


def _write_picture(path: Path, picture: np.ndarray) -> None:
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise OSError(f"picture {path} could not be written")
