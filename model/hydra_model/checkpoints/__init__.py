# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: the released files, our model folders, and the way from one to the other."""

from hydra_model.checkpoints.convert import convert
from hydra_model.checkpoints.files import CheckpointError
from hydra_model.checkpoints.folder import (
    complete_model_folder,
    load_autoencoder,
    load_config,
    load_transformer,
    open_text_encoder,
    save_model_folder,
)
from hydra_model.checkpoints.upstream import (
    load_tiny_decoder,
    load_upstream_autoencoder,
    load_upstream_text_model,
    load_upstream_transformer,
    load_wan_base,
)

__all__ = [
    "CheckpointError",
    "complete_model_folder",
    "convert",
    "load_autoencoder",
    "load_config",
    "load_tiny_decoder",
    "load_transformer",
    "load_upstream_autoencoder",
    "load_upstream_text_model",
    "load_upstream_transformer",
    "load_wan_base",
    "open_text_encoder",
    "save_model_folder",
]
