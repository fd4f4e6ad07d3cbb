# SPDX-License-Identifier: Apache-2.0
"""Parameters -> a loaded world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra_ros.parameters import Settings


def load_world(settings: Settings, progress: Callable[..., None]) -> Any:
    """Load the world that the parameters name; to be called on the thread that will own it.

    ``progress`` is called now and then and may raise to give up. PyTorch is imported here, so
    that a node which is not configured yet costs little.
    """
    from hydra_model.world import World

    return World.load(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        seed=settings.seed,
        progress=progress,
    )
