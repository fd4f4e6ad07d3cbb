# SPDX-License-Identifier: Apache-2.0
"""The real node as a child process, driven over DDS, with the memory that it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hydra_model.config import ModelConfig
from hydra_model.video import write_video
from hydra_ros.demo.client import Client
from hydra_ros.demo.node_process import NodeProcess


def write_clip(folder: Path, config: ModelConfig) -> None:
    """Write a context clip "1": drifting colours, and a camera that goes 2 cm a frame."""
    folder.mkdir(exist_ok=True)
    height, width = config.video.height, config.video.width
    y, x = np.mgrid[:height, :width] / width
    frames = np.stack([
        np.stack([np.sin(6 * x + 0.1 * i), np.sin(9 * y - 0.05 * i), np.cos(5 * (x + y))], -1)
        for i in range(config.context_frames)
    ])  # fmt: skip
    write_video(folder / "1.mp4", (127.5 + 100 * frames).astype(np.uint8), config.video.fps)
    matrices = np.tile(np.eye(4), (2 * config.context_frames, 1, 1))
    matrices[:, 0, 3] = 2.0 * np.arange(len(matrices))  # Unreal: centimetres forward
    halves = np.split(matrices, 2)
    cameras = {
        key: {str(i): matrix.tolist() for i, matrix in enumerate(half)}
        for key, half in zip(("cond_cam", "tgt_cam"), halves, strict=True)
    }
    (folder / "cam1.json").write_text(json.dumps(cameras))


def ahead(pose: np.ndarray, count: int) -> np.ndarray:
    """Return the next optical poses ``[count, 4, 4]`` of a camera that goes 2 cm a frame ahead."""
    poses = np.tile(pose, (count, 1, 1))
    steps = np.arange(1, count + 1)[:, None]
    poses[:, :3, 3] += steps * (pose[:3, :3] @ np.array([0.0, 0.0, 0.02]))
    return poses


def drive_node(
    model: Path,
    clips: Path,
    config: ModelConfig,
    device: str,
    *,
    log: Path,
    sampling_steps: int,
    paths: int,
    timeout: float,
    results: dict[str, Any],
) -> None:
    """Start ``hydra_simulator``, command paths, collect the frames; note times in ``results``.

    Raises:
        NodeError: the node ended early or refuses.
        TimeoutError: nothing came from it for ``timeout`` seconds.
    """
    parameters = {
        "mode": "lockstep",
        "model": str(model),
        "device": device,
        "sampler_steps": sampling_steps,
        "start_source": "none",
        "clips_folder": str(clips),
        "playback_speed": 0.0,  # as soon as they are there
    }
    namespace = f"/hydra_full_size_{os.getpid()}"
    count = config.chunk_frames
    memory = MemoryWatch(device) if device.startswith("cuda") else None
    node = NodeProcess(namespace, parameters, log)
    if memory:
        memory.start(node.pid)
    try:
        with node, Client(namespace, node.check) as client:
            started = time.perf_counter()
            client.wait_for_node(timeout, _no_report)
            pose = client.reset("1", 0, timeout, _no_report)
            results["starting, loading and encoding the context, s"] = round(
                time.perf_counter() - started, 3
            )
            for path in range(paths):
                poses = ahead(pose, count)
                pose = poses[-1]
                name = "" if paths == 1 else f"path {path + 1}: "
                client.first_frame_at = 0.0
                command, sent = time.perf_counter(), time.monotonic()
                client.send_path(poses, config.video.fps)
                frames = client.receive((path + 1) * count, timeout, _no_report)
                results[f"{name}command to last frame, s"] = round(time.perf_counter() - command, 3)
                first = client.first_frame_at - sent
                results[f"{name}command to first frame, s"] = round(first, 3)
                # Two forwards a step with guidance; the rest of that time is small.
                guided = 2 if config.sampler.guidance_scale != 1.0 else 1
                each = first / (guided * sampling_steps)
                results[f"{name}command to first frame by forward, s"] = round(each, 3)
            stamps = {frame.stamp for frame in frames}
            results["frames received"] = len(stamps)
            results["frame size"] = "x".join(map(str, frames[-1].image.shape[1::-1]))
            results["sampling steps"] = sampling_steps
            results["exit code after SIGINT"] = node.stop()
    except BaseException:
        sys.stderr.write(node.log.read_text(errors="replace")[-4000:])
        raise
    finally:
        if memory:
            results["peak GPU memory, GiB"] = memory.stop()


def _no_report(*_: int) -> None:
    pass


class MemoryWatch:
    """Polls the GPU memory of a process.

    In a container the driver may not know our process ids; then it is what the GPU holds more
    than before.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._before = self._used()
        self._most = 0.0
        self._stopped = threading.Event()

    def start(self, pid: int) -> None:
        self._thread = threading.Thread(target=self._poll, args=(pid,), daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Return the peak in GiB."""
        self._stopped.set()
        self._thread.join(10)
        return round(self._most / 1024, 2)

    def _poll(self, pid: int) -> None:
        while not self._stopped.wait(0.2):
            by_process = {}
            for line in self._query("--query-compute-apps=pid,used_memory").splitlines():
                process, _, used = line.partition(",")
                if used.strip().isdigit():
                    by_process[process.strip()] = float(used)
            used = by_process.get(str(pid))
            self._most = max(self._most, self._used() - self._before if used is None else used)

    def _used(self) -> float:
        free, total = torch.cuda.mem_get_info(self._device)
        return (total - free) / 2**20

    @staticmethod
    def _query(what: str) -> str:
        command = ["nvidia-smi", what, "--format=csv,noheader,nounits"]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
        except (OSError, subprocess.TimeoutExpired):
            return ""
