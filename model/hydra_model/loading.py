# SPDX-License-Identifier: Apache-2.0
"""Where and in which numbers a model runs, and what embeds its prompts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder, fastest_dtype
from hydra_model.checkpoints import (
    load_config,
    load_tiny_decoder,
    load_transformer,
    open_text_encoder,
)
from hydra_model.config import ModelConfig, VideoConfig
from hydra_model.cpu_blocks import use_cpu_blocks
from hydra_model.fast.acceleration import Acceleration, acceleration_preset
from hydra_model.fast.decoding import compile_decoding
from hydra_model.fast.engine import Engine, accelerate
from hydra_model.fast.team import lead
from hydra_model.text import TextEncoder
from hydra_model.tiny_decoder import TinyDecoder, check_latent_space
from hydra_model.transformer import Transformer

logger = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """Return the device that "auto", "cpu" or "cuda[:n]" stands for, or raise ValueError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accepted = f"device {name!r}; accepted: auto, cpu, cuda, cuda:0, ..."
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(accepted) from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(accepted)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}, but PyTorch sees no GPU here; accepted: auto, cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ValueError(f"device {name!r}; accepted: auto, cpu, cuda:0 to cuda:{last}")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the number type of a name; "auto" is what the device multiplies fastest."""
    if name == "auto":
        return fastest_dtype(device)
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ValueError(f"dtype {name!r}; accepted: auto, {', '.join(known)}")
    return known[name]


def speed_up(
    transformer: Transformer,
    acceleration: str,
    *,
    decoding: tuple[Autoencoder, VideoConfig] | None = None,
    gpus: int = 1,
    folder: Path | None = None,
) -> None:
    """Let a model run its forwards, and decode, as fast as its device can, in place.

    ``acceleration`` is one of ``config.ACCELERATIONS``. "reference" leaves the readable path;
    every other takes for each form of the model and each device what there is for it.
    ``decoding`` is the autoencoder that will decode, and the videos that it will. With ``gpus``
    above 1 further processes load the same ``folder`` and share the work, as far as the machine
    has GPUs and the model is in the released form.
    """
    device = transformer.head.linear.weight.device
    switches = acceleration_preset(acceleration, device)
    if acceleration == "reference":
        return
    engine = None if switches is None else accelerate(transformer, switches)
    if decoding is not None and switches is not None and switches.decoder:
        autoencoder, video = decoding
        compile_decoding(autoencoder, video.height, video.width)
    if device.type == "cpu":
        use_cpu_blocks(transformer)
    if gpus > 1 and folder is not None and switches is not None:
        devices = team_devices(device, gpus)
        if engine is None:
            logger.warning("this model runs on one GPU: only the released form is shared")
        elif len(devices) > 1:
            dtype = transformer.head.linear.weight.dtype
            lead(transformer, engine, FolderEngine(folder, dtype, switches), devices)


def team_devices(first: torch.device, gpus: int) -> list[torch.device]:
    """Return ``first`` and the next GPUs, as many as there are up to ``gpus``."""
    count = torch.cuda.device_count()
    if gpus > count:
        logger.warning("%d GPUs wanted, %d here: going on with %d", gpus, count, max(1, count))
    index = first.index or 0
    return [torch.device("cuda", (index + i) % count) for i in range(min(gpus, count))]


@dataclass(frozen=True)
class FolderEngine:
    """Loads a model folder's transformer onto a device, in another process."""

    folder: Path
    dtype: torch.dtype
    switches: Acceleration

    def __call__(self, device: torch.device) -> Engine:
        config = load_config(self.folder)
        model = load_transformer(self.folder, config, dtype=self.dtype, device=device)
        return Engine(model.requires_grad_(False).eval(), self.switches)


def open_tiny_decoder(
    path: Path, config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> TinyDecoder:
    """Return the decoder of a TAEHV file for a model; ``ValueError`` where it has other latents."""
    check_latent_space(config.autoencoder, config.name)
    return load_tiny_decoder(path, device=device).prepare(device, dtype)


def prompt_embedder(
    folder: Path, config: ModelConfig, device: torch.device
) -> Callable[[str], Tensor] | None:
    """Return what turns prompts into embeddings, None for a model that reads no text.

    The encoder is loaded onto ``device`` for prompts that are not in the folder's cache yet, and
    let go again; where it does not fit there, it runs on the CPU, with a warning.
    """
    text = config.text
    if text is None:
        return None
    if not any(folder.glob("text_encoder*.safetensors*")):
        logger.warning("%s holds no text encoder: every prompt is taken as empty", folder)
        return lambda prompt: torch.zeros(text.max_tokens, text.dim)

    def encoder(place: torch.device) -> TextEncoder:
        return open_text_encoder(folder, config, device=place, cache_folder=folder / "prompt_cache")

    def embed(prompt: str) -> Tensor:
        try:
            return encoder(device).embed(prompt)
        except torch.OutOfMemoryError:
            logger.warning("the text encoder does not fit on %s; it runs on the CPU", device)
            torch.cuda.empty_cache()
        return encoder(torch.device("cpu")).embed(prompt)

    return embed
