# SPDX-License-Identifier: Apache-2.0
"""A fine-tuning run as a config file describes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from hydra_model.autoencoder import Autoencoder, fastest_dtype
from hydra_model.checkpoints import (
    complete_model_folder,
    load_autoencoder,
    load_config,
    load_transformer,
    load_upstream_autoencoder,
    load_upstream_transformer,
    load_wan_base,
)
from hydra_model.config import ModelConfig
from hydra_model.datasets.shards import PreparedClips
from hydra_model.training.begun import check_begun
from hydra_model.training.distributed import Process
from hydra_model.training.finetune import FinetuneTraining, finetune
from hydra_model.training.hydra_objective import initialise_additions
from hydra_model.training.journal import Journal
from hydra_model.training.latent_batches import Clips, SyntheticClips
from hydra_model.transformer import Transformer
from hydra_model.typed_values import check

STARTS = "wan-base:FILE, hydra:FILE, folder:MODEL_FOLDER or random"


@dataclass(frozen=True, kw_only=True)
class FinetuneRun:
    """A run on prepared clips; see ``docs/training.md``.

    ``model`` is a preset, a JSON file or a model folder. ``start`` is where the weights come from
    (``STARTS``). ``data`` is a folder of prepared clips, or "synthetic" for made-up ones.
    ``autoencoder``, a model folder or ``Wan2.1_VAE.pth``, is needed for sample videos only. Where
    it or ``start`` is a model folder, what is not trained becomes part of the trained one too.
    ``leg_steps`` ends a leg before the plan does; the next leg goes on.
    """

    recipe: Literal["finetune"]
    output: str
    model: str = "hydra-1.3b"
    start: str = "random"
    data: str = "synthetic"
    autoencoder: str | None = None
    leg_steps: int | None = None
    device: str = "auto"
    training: FinetuneTraining = field(default_factory=FinetuneTraining)

    def __post_init__(self) -> None:
        check(self, "1 or more", "leg_steps")

    def config(self) -> ModelConfig:
        path = Path(self.model)
        if path.suffix == ".json":
            return ModelConfig.from_json(path.read_text(encoding="utf-8"))
        return load_config(path) if path.is_dir() else ModelConfig.from_name(self.model)


def run_finetune(settings: FinetuneRun, process: Process, journal: Journal) -> list[float]:
    """Open data and weights, in this order, and train; wrong input is a ``ValueError``."""
    config = settings.config()
    keep = process.leads and settings.training.save_every > 0
    check_begun(Path(settings.output), config, keep=keep)
    clips: Clips
    if settings.data == "synthetic":
        clips = SyntheticClips(config)
    else:
        clips = PreparedClips(settings.data)
        if clips.repeated:
            journal.say(
                f"{settings.data} lists {len(clips.repeated)} clips more than once "
                f"({clips.repeated[0]!r} is the first); each is taken once"
            )
    torch.manual_seed(settings.training.seed)
    transformer = open_start(settings.start, config, process)
    losses = finetune(
        config, transformer, clips, settings.training, process, folder=Path(settings.output),
        journal=journal, autoencoder=_autoencoder(settings, config, process),
        leg_steps=settings.leg_steps,
    )  # fmt: skip
    trained = Path(settings.output) / "model"
    if process.leads and trained.is_dir():
        kind, _, start = settings.start.partition(":")
        for place in (settings.autoencoder, start if kind == "folder" else None):
            if place and Path(place).is_dir():
                complete_model_folder(trained, place)
    return losses


def open_start(start: str, config: ModelConfig, process: Process) -> Transformer:
    """Return a transformer with the weights that training starts from, in float32."""
    kind, _, place = start.partition(":")
    if start == "random":
        with process.device:
            model = Transformer(config.transformer)
        initialise_additions(model)
        return model
    if kind == "wan-base" and place:
        return load_wan_base(place, config.transformer, dtype=torch.float32)
    if kind == "hydra" and place:
        return load_upstream_transformer(place, config.transformer, dtype=torch.float32)
    if kind == "folder" and place:
        return load_transformer(place, config, dtype=torch.float32)
    raise ValueError(f"start is {start!r}; accepted: {STARTS}")


def _autoencoder(
    settings: FinetuneRun, config: ModelConfig, process: Process
) -> Autoencoder | None:
    # In every process, though only the leading one decodes: they must agree on when to sample.
    if settings.autoencoder is None:
        return None
    path = Path(settings.autoencoder)
    if path.is_dir():
        model = load_autoencoder(path, config)
    else:
        model = load_upstream_autoencoder(path, config.autoencoder)
    return model.prepare(process.device, fastest_dtype(process.device))
