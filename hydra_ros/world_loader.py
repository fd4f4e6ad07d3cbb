# SPDX-License-Identifier: Apache-2.0
"""Parameters -> a loaded world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra_ros.environment import ros_home
from hydra_ros.parameters import Settings


def load_world(settings: Settings, progress: Callable[..., None]) -> Any:
    """Load the world that the parameters name; to be called on the thread that will own it.

    ``progress`` is called now and then and may raise to give up. PyTorch is imported here, so
    that a node which is not configured yet costs little.
    """
    from hydra_model.checkpoints import load_config
    from hydra_model.memory import MemorySettings
    from hydra_model.resources import weights_folder
    from hydra_model.sampler_presets import sampler_preset
    from hydra_model.world import World

    folder = weights_folder() if settings.model == "default" else Path(settings.model).expanduser()
    sampler = sampler_preset(settings.sampler_preset, load_config(folder).sampler)
    if settings.sampler_steps:
        sampler = dataclasses.replace(sampler, steps=settings.sampler_steps)
    tiny = settings.tiny_decoder
    return World.load(
        folder,
        device=settings.device,
        dtype=settings.dtype,
        seed=settings.seed,
        sampler=sampler,
        acceleration=settings.acceleration,
        gpus=settings.gpus,
        text_encoder_device=settings.text_encoder_device,
        tiny_decoder=Path(tiny).expanduser() if tiny else None,
        memory=MemorySettings(policy=settings.memory_policy, limits=_limits(settings)),
        progress=progress,
    )


def _limits(settings: Settings) -> Any:
    from hydra_model.memory import MemoryLimits

    def limit(megabytes: float) -> int | None:
        return round(megabytes * 1e6) or None

    folder = settings.memory_folder
    return MemoryLimits(
        device_bytes=limit(settings.memory_device_mb),
        host_bytes=limit(settings.memory_host_mb),
        folder=Path(folder).expanduser() if folder else ros_home() / "hydra_ros" / "memory",
    )
