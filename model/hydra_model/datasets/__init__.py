# SPDX-License-Identifier: Apache-2.0
"""Data sets of clips with cameras, and what is prepared of them once for training."""

from hydra_model.datasets.clips import Clip, ClipSource, UnusableClip
from hydra_model.datasets.hm_world import HMWorldClips
from hydra_model.datasets.opening import open_clips
from hydra_model.datasets.procedural_clips import ProceduralClips
from hydra_model.datasets.shards import PreparedClip, PreparedClips, ShardError

__all__ = [
    "Clip",
    "ClipSource",
    "HMWorldClips",
    "PreparedClip",
    "PreparedClips",
    "ProceduralClips",
    "ShardError",
    "UnusableClip",
    "open_clips",
]
