# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.node_overhead``: what the node adds to the time of its model.

The same model runs in this process, without ROS, and in a node of its own whose frames this process
receives over DDS, turn by turn: chunks from the same clip, each from command to last frame. By
default it is a small model with random weights whose frames have the released size, 832x480;
"full-size" is the released model with made-up weights, for a GPU. With fewer threads for the model
than there are cores (``OMP_NUM_THREADS=1``) the rest of the node does not run at the model's
expense, as on a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.node_run import ahead, write_clip
from hydra_model.autoencoder import Autoencoder
from hydra_model.benchmark.subjects import GENERATED, load_subject
from hydra_model.cameras import load_cameras
from hydra_model.checkpoints import load_config, save_model_folder
from hydra_model.config import DEFAULT, SceneFlowConfig
from hydra_model.transformer import Transformer
from hydra_model.video import read_video
from hydra_model.world import World
from hydra_ros.demo.client import Client
from hydra_ros.demo.node_process import NodeProcess
from hydra_ros.environment import use_dds_profile

SMALL = dataclasses.replace(
    DEFAULT,
    video=dataclasses.replace(DEFAULT.video, height=480, width=832),
    # Sizes with which one core of a server makes somewhat more than 15 frames a second.
    autoencoder=dataclasses.replace(DEFAULT.autoencoder, base_dim=24, patch_size=4),
    transformer=dataclasses.replace(
        DEFAULT.transformer, dim=48, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16,
        scene_flow=SceneFlowConfig(after=1, hidden=16, num_blocks=1),
    ),
    sampler=dataclasses.replace(DEFAULT.sampler, steps=1),
)  # fmt: skip
LIMIT = 300.0  # seconds to wait for a frame


def model_folder(model: str, folder: Path, device: str) -> Path:
    """Return ``model``, or write it to ``folder`` where it is one of random weights."""
    if model in GENERATED:
        world = load_subject(model, device=device, dtype="auto")
        save_model_folder(
            folder, world.config, transformer=world.transformer, autoencoder=world.autoencoder
        )
        return folder
    if model != "small":
        return Path(model)
    torch.manual_seed(0)
    save_model_folder(
        folder, SMALL, transformer=Transformer(SMALL.transformer),
        autoencoder=Autoencoder(SMALL.autoencoder),
    )  # fmt: skip
    return folder


def measure(model: Path, folder: Path, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Return seconds of a chunk without and with the node, for each repeat."""
    config = load_config(model)
    clips = folder / "clips"
    write_clip(clips, config)
    parameters = {
        "mode": "lockstep", "model": str(model), "device": options.device,
        "start_source": "none", "clips_folder": str(clips), "playback_speed": 0.0,
        "sampler_steps": options.steps, "acceleration": options.acceleration,
    }  # fmt: skip
    namespace = f"/node_overhead_{os.getpid()}"
    found = []
    with (
        NodeProcess(namespace, parameters, folder / "node.log") as node,
        Client(namespace, node.check) as client,
    ):
        client.wait_for_node(LIMIT, lambda: None)
        pose = client.reset("1", 0, LIMIT, lambda: None)
        sampler = config.sampler
        if options.steps:
            sampler = dataclasses.replace(sampler, steps=options.steps)
        world = World.load(
            model, device=options.device, sampler=sampler, acceleration=options.acceleration
        )
        frames, _ = read_video(clips / "1.mp4", config.context_frames)
        track = load_cameras(clips / "cam1.json", frames=config.context_frames)
        assert track.context is not None
        world.reset(frames, track.context)
        received = 0
        for repeat in range(options.warm_up + options.repeats):
            began = time.perf_counter()
            world.step(ahead(world.pose, config.chunk_frames), on_frames=lambda *_: None)
            alone = time.perf_counter() - began
            poses = ahead(pose, config.chunk_frames)
            pose = poses[-1]
            received += len(poses)
            began = time.perf_counter()
            client.send_path(poses, config.video.fps)
            client.receive(received, LIMIT, lambda _: None)
            through = time.perf_counter() - began
            if repeat >= options.warm_up:
                found.append((alone, through))
                print(f"without the node {alone:.3f} s, with it {through:.3f} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="small", help=f"small, {', '.join(GENERATED)} or a model folder"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda[:n]")
    parser.add_argument("--acceleration", default="auto", help="how the model runs")
    parser.add_argument("--steps", type=int, default=0, help="sampling steps (0: the model's own)")
    parser.add_argument("--warm-up", type=int, default=1, help="chunks of each before those timed")
    parser.add_argument("--repeats", type=int, default=5, help="chunks of each that are timed")
    options = parser.parse_args()
    use_dds_profile()
    with tempfile.TemporaryDirectory(prefix="node_overhead_") as name:
        folder = Path(name)
        model = model_folder(options.model, folder / "model", options.device)
        config = load_config(model)
        found = measure(model, folder, options)
    alone, through = (statistics.median(column) for column in zip(*found, strict=True))
    share = through / alone - 1
    turns = statistics.median(b / a - 1 for a, b in found)
    count, video = config.chunk_frames, config.video
    print(
        f"\n{count} frames of {video.width}x{video.height}, medians of {len(found)}: without the "
        f"node {alone:.3f} s ({count / alone:.1f} frames/s), with it {through:.3f} s\nthe node "
        f"adds {1000 * (through - alone) / count:.2f} ms a frame, {100 * share:.1f} % (median of "
        f"the turns {100 * turns:.1f} %)"
    )


if __name__ == "__main__":
    main()
