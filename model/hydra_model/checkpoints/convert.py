# SPDX-License-Identifier: Apache-2.0
"""From a folder of the released files to one of our model folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from hydra_model.checkpoints.files import CheckpointError
from hydra_model.checkpoints.folder import save_model_folder
from hydra_model.checkpoints.upstream import (
    load_upstream_autoencoder,
    load_upstream_text_model,
    load_upstream_transformer,
)
from hydra_model.config import ModelConfig

TRANSFORMER_FILE = "hydra.ckpt"
AUTOENCODER_FILE = "Wan2.1_VAE.pth"
TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER_FOLDER = "google/umt5-xxl"

# Called with what is being done and the share done, 0 to 1.
Progress = Callable[[str, float], None]


def convert(
    source: str | Path,
    target: str | Path,
    config: ModelConfig | None = None,
    *,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> ModelConfig:
    """Convert the released files in ``source`` (at any depth) to the model folder ``target``.

    ``config`` is that of the release unless given; without its ``text`` the text encoder is
    left out. ``dtype`` None keeps the files' types. All files are looked for before anything
    is written. Returns the configuration written; problems are a ``CheckpointError``.
    """
    source, target = Path(source), Path(target)
    config = config or ModelConfig.from_name("hydra-1.3b")
    report = progress or (lambda message, share: None)
    transformer_path = _find(source, TRANSFORMER_FILE)
    autoencoder_path = _find(source, AUTOENCODER_FILE)
    if config.text is not None:
        text_path = _find(source, TEXT_FILE)
        tokenizer_folder = _find(source, TOKENIZER_FOLDER)

    # The larger a part, the larger its share of the bar; each is let go before the next.
    report(f"transformer ({transformer_path.name})", 0.0)
    transformer = load_upstream_transformer(transformer_path, config.transformer)
    save_model_folder(target, config, transformer=transformer, dtype=dtype)
    del transformer
    report(f"autoencoder ({autoencoder_path.name})", 0.4)
    autoencoder = load_upstream_autoencoder(autoencoder_path, config.autoencoder)
    save_model_folder(target, config, autoencoder=autoencoder, dtype=dtype)
    del autoencoder
    if config.text is not None:
        report(f"text encoder ({text_path.name})", 0.45)
        text_model = load_upstream_text_model(text_path, config.text)
        save_model_folder(
            target, config, text_encoder=text_model, tokenizer_folder=tokenizer_folder, dtype=dtype
        )
    report("done", 1.0)
    return config


def _find(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder")
    found = sorted(folder.rglob(name), key=lambda path: (len(path.parts), path))
    if not found:
        raise CheckpointError(f"{name} is not in {folder}")
    return found[0]
