# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.long_memory``: ten simulated minutes within a bound on memory.

Runs a small model with random weights, as only its memory matters, and prints every minute how
much main memory the process takes, where the latents are and how long a snapshot takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import DEFAULT, SceneFlowConfig
from hydra_model.memory import MemoryLimits, MemorySettings
from hydra_model.procedural.trajectories import optical_poses
from hydra_model.transformer import Transformer
from hydra_model.world import World

_SMALL = dataclasses.replace(
    DEFAULT,
    autoencoder=dataclasses.replace(DEFAULT.autoencoder, base_dim=8),
    transformer=dataclasses.replace(
        DEFAULT.transformer, dim=48, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16,
        scene_flow=SceneFlowConfig(after=1, hidden=16, num_blocks=1),
    ),
    sampler=dataclasses.replace(DEFAULT.sampler, steps=1),
)


def resident_bytes() -> int:
    """Return the main memory that this process takes (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def turning(start: float, count: int) -> np.ndarray:
    """Return poses of a camera that turns on the spot by 20 degrees a second, at 15 fps."""
    yaw = torch.deg2rad(20 * (start + torch.arange(1, count + 1, dtype=torch.float64) / 15))
    return optical_poses(torch.zeros(count, 3, dtype=torch.float64), yaw, 0 * yaw).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="simulated")
    parser.add_argument("--host-mb", type=float, default=4.0, help="0: no bound")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        limits = MemoryLimits(host_bytes=round(options.host_mb * 1e6), folder=Path(folder))
        world = World(
            _SMALL,
            Autoencoder(_SMALL.autoencoder).prepare("cpu", torch.float32),
            Transformer(_SMALL.transformer).requires_grad_(False).eval(),
            memory=MemorySettings(limits=limits if options.host_mb else MemoryLimits()),
        )
        frames = np.random.default_rng(0).integers(0, 256, (77, 96, 160, 3), dtype=np.uint8)
        world.reset(frames, turning(0.0, 77))
        print("| simulated | latent frames | resident, MB | latents in memory, MB | on disk, MB "
              "| snapshot, us |\n|---|---|---|---|---|---|")  # fmt: skip
        minute = 0
        while world.time < 60 * options.minutes:
            world.step(turning(world.time, world.max_chunk_frames))
            if world.time >= 60 * (minute + 1):
                minute += 1
                began = time.perf_counter()
                world.restore(world.state())
                took = time.perf_counter() - began
                usage = world.memory_usage
                print(f"| {minute} min | {world.memory_size} | {resident_bytes() / 1e6:.0f} | "
                      f"{usage.host_bytes / 1e6:.1f} | {usage.disk_bytes / 1e6:.1f} | "
                      f"{took * 1e6:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
