# SPDX-License-Identifier: Apache-2.0
"""Procedural worlds: endless training data, and ground truth for any camera path.

``scenes``, ``motion`` and ``trajectories`` draw what a seed holds; ``visibility`` and ``shading``
say how it looks, ray by ray; ``cores`` runs them eagerly or compiled, ``fused`` says the
same in one kernel for GPUs; ``renderer`` and ``episodes`` are what others call.
"""

from hydra_model.procedural.episodes import (
    Episode,
    Reentry,
    Worlds,
    episode,
    reentry_events,
    render_worlds,
    sample_training_batch,
    sample_worlds,
)
from hydra_model.procedural.renderer import choose_core, render
from hydra_model.procedural.trajectories import FAMILIES

__all__ = [
    "FAMILIES",
    "Episode",
    "Reentry",
    "Worlds",
    "choose_core",
    "episode",
    "reentry_events",
    "render",
    "render_worlds",
    "sample_training_batch",
    "sample_worlds",
]
