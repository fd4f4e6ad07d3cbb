# SPDX-License-Identifier: Apache-2.0
"""Where and in which numbers a model runs, and what embeds its prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hydra_model.autoencoder import fastest_dtype
from hydra_model.checkpoints import open_text_encoder
from hydra_model.config import ModelConfig
from hydra_model.cpu_blocks import use_cpu_blocks
from hydra_model.fast.acceleration import acceleration_preset
from hydra_model.fast.engine import accelerate
from hydra_model.transformer import Transformer

logger = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """Return the device that "auto", "cpu" or "cuda[:n]" stands for, or raise ValueError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r}; accepted: auto, cpu, cuda, cuda:0, ...") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}, but PyTorch sees no GPU here; accepted: auto, cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the number type of a name; "auto" is what the device multiplies fastest."""
    if name == "auto":
        return fastest_dtype(device)
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ValueError(f"dtype {name!r}; accepted: auto, {', '.join(known)}")
    return known[name]


def speed_up(transformer: Transformer, acceleration: str) -> None:
    """Let a transformer run its forwards as fast as its device can, in place.

    ``acceleration`` is one of ``config.ACCELERATIONS``. "reference" leaves the readable path;
    every other takes for each form of the model and each device what there is for it.
    """
    device = transformer.head.linear.weight.device
    switches = acceleration_preset(acceleration, device)
    if acceleration == "reference":
        return
    if switches is not None:
        accelerate(transformer, switches)
    if device.type == "cpu":
        use_cpu_blocks(transformer)


def prompt_embedder(
    folder: Path, config: ModelConfig, device: torch.device
) -> Callable[[str], Tensor] | None:
    """Return what turns prompts into embeddings, None for a model that reads no text."""
    text = config.text
    if text is None:
        return None
    if any(folder.glob("text_encoder*.safetensors*")):
        encoder = open_text_encoder(
            folder, config, device=device, cache_folder=folder / "prompt_cache"
        )
        return encoder.embed
    logger.warning("%s holds no text encoder: every prompt is taken as empty", folder)
    return lambda prompt: torch.zeros(text.max_tokens, text.dim)
