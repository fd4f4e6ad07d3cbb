# SPDX-License-Identifier: Apache-2.0
"""Procedural worlds: endless training data, and ground truth for any camera path."""

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
from hydra_model.procedural.renderer import compile_core, render
from hydra_model.procedural.trajectories import FAMILIES

__all__ = [
    "FAMILIES",
    "Episode",
    "Reentry",
    "Worlds",
    "compile_core",
    "episode",
    "reentry_events",
    "render",
    "render_worlds",
    "sample_training_batch",
    "sample_worlds",
]
