# SPDX-License-Identifier: Apache-2.0
"""Parameters -> a loaded world."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra_ros.environment import ros_home
from hydra_ros.parameters import Settings

if TYPE_CHECKING:
    from hydra_model.workers.worker import Recipe


def load_world(settings: Settings, progress: Callable[..., None]) -> Any:
    """Load the world that the parameters name; to be called on the thread that will own it.

    ``progress`` is called now and then and may raise to give up. PyTorch is imported here, so
    that a node which is not configured yet costs little.
    """
    from hydra_model.memory import MemorySettings
    from hydra_model.world import World

    return World.load(
        _folder(settings),
        device=settings.device,
        seed=settings.seed,
        gpus=settings.gpus,
        memory=MemorySettings(policy=settings.memory_policy, limits=_limits(settings)),
        progress=progress,
        **_options(settings),
    )


def worker_recipe(settings: Settings) -> Recipe:
    """Return how a worker loads the same model, on its own device."""
    from hydra_model.workers.worker import Recipe

    # The default weights lie elsewhere on another machine.
    own = settings.model == "default"
    model = "default" if own else _folder(settings).absolute()
    return Recipe(model=model, device=settings.device, options=_options(settings))


def _folder(settings: Settings) -> Path:
    from hydra_model.resources import weights_folder

    return weights_folder() if settings.model == "default" else Path(settings.model).expanduser()


def _options(settings: Settings) -> dict[str, Any]:
    """Return what every process that runs the model has in common."""
    from hydra_model.checkpoints import load_config
    from hydra_model.sampler_presets import sampler_preset

    sampler = sampler_preset(settings.sampler_preset, load_config(_folder(settings)).sampler)
    if settings.sampler_steps:
        sampler = dataclasses.replace(sampler, steps=settings.sampler_steps)
    if settings.sampler_temperature >= 0:
        sampler = dataclasses.replace(sampler, temperature=settings.sampler_temperature)
    tiny = settings.tiny_decoder
    return {
        "dtype": settings.dtype,
        "sampler": sampler,
        "acceleration": settings.acceleration,
        "text_encoder_device": settings.text_encoder_device,
        "tiny_decoder": Path(tiny).expanduser().absolute() if tiny else None,
    }


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
