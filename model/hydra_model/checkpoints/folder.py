# SPDX-License-Identifier: Apache-2.0
"""Our own model folders.

A folder holds ``config.json``, ``transformer.safetensors``, ``autoencoder.safetensors`` and,
for models that read prompts, ``text_encoder.safetensors`` and ``tokenizer/``. A large set of
tensors is split into numbered parts with an ``.index.json``. Names are those of our modules.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hydra_model.checkpoints.assign import ModuleType, Precision, assign, on_meta
from hydra_model.checkpoints.files import CheckpointError, identity, read_tensors, write_tensors
from hydra_model.checkpoints.upstream import tie_embeddings
from hydra_model.config import ModelConfig
from hydra_model.text import TextEncoder, build_text_model
from hydra_model.transformer import Transformer

if TYPE_CHECKING:
    from hydra_model.autoencoder import Autoencoder

Device = torch.device | str
Weights = nn.Module | Mapping[str, Tensor]

CONFIG = "config.json"
TRANSFORMER = "transformer.safetensors"
AUTOENCODER = "autoencoder.safetensors"
TEXT_ENCODER = "text_encoder.safetensors"
TOKENIZER = "tokenizer"


def save_model_folder(
    folder: str | Path,
    config: ModelConfig,
    *,
    transformer: Weights | None = None,
    autoencoder: Weights | None = None,
    text_encoder: Weights | None = None,
    tokenizer_folder: str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the configuration and the given parts (modules or their state dicts) to ``folder``.

    Parts that are not given stay as they are in the folder. ``dtype`` None keeps each tensor's.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).write_text(config.to_json())
        if tokenizer_folder is not None:
            shutil.copytree(tokenizer_folder, folder / TOKENIZER, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise CheckpointError(f"model folder {folder} cannot be written: {error}") from error
    parts = {TRANSFORMER: transformer, AUTOENCODER: autoencoder, TEXT_ENCODER: text_encoder}
    for file, weights in parts.items():
        if weights is None:
            continue
        tensors = weights.state_dict() if isinstance(weights, nn.Module) else dict(weights)
        if file == TEXT_ENCODER:
            tensors.pop("encoder.embed_tokens.weight", None)  # the same tensor as "shared"
        write_tensors(folder / file, tensors, dtype)


def complete_model_folder(folder: str | Path, source: str | Path) -> None:
    """Give ``folder`` the parts that it lacks and the model folder ``source`` has.

    Files are linked where the file system can, so that a text encoder takes its room once.
    """
    folder, source = Path(folder), Path(source)
    try:
        for part in (TRANSFORMER, AUTOENCODER, TEXT_ENCODER):
            if any(folder.glob(part.replace(".", "*."))):
                continue
            for file in (
                *source.glob(part.replace(".", "*.")),
                *source.glob(f"{part}.index.json"),
            ):
                _link(str(file), str(folder / file.name))
        if (source / TOKENIZER).is_dir() and not (folder / TOKENIZER).exists():
            shutil.copytree(source / TOKENIZER, folder / TOKENIZER, copy_function=_link)
    except (OSError, shutil.Error) as error:
        raise CheckpointError(f"model folder {folder} cannot be written: {error}") from error


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # another file system
        partial = f"{target}.partial"
        shutil.copy2(source, partial)
        os.replace(partial, target)  # what is there is whole


def load_config(folder: str | Path) -> ModelConfig:
    """Return the configuration of a model folder."""
    path = Path(folder) / CONFIG
    try:
        return ModelConfig.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def load_transformer(
    folder: str | Path,
    config: ModelConfig | None = None,
    *,
    dtype: Precision = None,
    device: Device = "cpu",
) -> Transformer:
    """Return a model folder's transformer; see ``load_upstream_transformer`` for ``dtype``."""
    config = config or load_config(folder)
    model = on_meta(lambda: Transformer(config.transformer))
    return _load(model, Path(folder) / TRANSFORMER, _precision(dtype), device)


_METRES = "scene_flow.foresight.foresee."


def _precision(dtype: Precision) -> Precision:
    """Keep what reckons with metres in float32."""
    if dtype is None or callable(dtype):
        return dtype
    return lambda name: torch.float32 if name.startswith(_METRES) else dtype


def load_autoencoder(
    folder: str | Path,
    config: ModelConfig | None = None,
    *,
    dtype: Precision = None,
    device: Device = "cpu",
) -> Autoencoder:
    """Return a model folder's autoencoder."""
    from hydra_model.autoencoder import Autoencoder  # takes seconds: only where needed

    config = config or load_config(folder)
    model = on_meta(lambda: Autoencoder(config.autoencoder))
    return _load(model, Path(folder) / AUTOENCODER, dtype, device)


def open_text_encoder(
    folder: str | Path,
    config: ModelConfig | None = None,
    *,
    dtype: Precision = None,
    device: Device = "cpu",
    cache_folder: str | Path | None = None,
) -> TextEncoder:
    """Return a model folder's text encoder; its weights are read when a new prompt needs them."""
    folder = Path(folder)
    config = config or load_config(folder)
    text = config.text
    if text is None:
        raise CheckpointError(f"model folder {folder} is of a model without text")
    files = sorted(folder.glob(TEXT_ENCODER.replace(".", "*.")))
    if not files:
        raise CheckpointError(f"{folder / TEXT_ENCODER} is missing")

    def load_model() -> nn.Module:
        model = on_meta(lambda: build_text_model(text))
        skip = "encoder.embed_tokens.weight"
        return tie_embeddings(_load(model, folder / TEXT_ENCODER, dtype, device, skip=skip))

    return TextEncoder(
        text,
        load_model=load_model,
        tokenizer_folder=folder / TOKENIZER,
        identity=identity(files),
        cache_folder=None if cache_folder is None else Path(cache_folder),
    )


def _load(
    model: ModuleType, path: Path, dtype: Precision, device: Device, *, skip: str = ""
) -> ModuleType:
    names = {name: name for name in model.state_dict() if name != skip}
    return assign(model, read_tensors(path), names, path, dtype=dtype, device=device)
