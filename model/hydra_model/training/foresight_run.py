# SPDX-License-Identifier: Apache-2.0
"""The run that adds foresight to a trained model."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from hydra_model.checkpoints import load_autoencoder, load_config
from hydra_model.checkpoints.assign import assign, on_meta
from hydra_model.checkpoints.files import read_tensors
from hydra_model.checkpoints.folder import TRANSFORMER
from hydra_model.config import ModelConfig
from hydra_model.procedural import choose_core
from hydra_model.training.begun import check_begun
from hydra_model.training.distributed import Process
from hydra_model.training.foresight import train_foresight
from hydra_model.training.journal import Journal
from hydra_model.training.procedural_run import ProceduralRun
from hydra_model.training.state import to_half
from hydra_model.transformer import Transformer

FORESIGHT = "scene_flow.foresight."  # its tensors in a transformer's file


def run_foresight(settings: ProceduralRun, process: Process, journal: Journal) -> None:
    """Train foresight for the model ``start_from``, and write the model with it into the folder."""
    settings.check_lengths(only="foresight")
    assert settings.start_from is not None
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    folder, source = Path(settings.output), Path(settings.start_from)
    without, config = _with_tracks(load_config(source), settings)
    check_begun(folder, config, part="with-foresight", keep=process.leads)
    folder.mkdir(parents=True, exist_ok=True)
    weights = read_tensors(source / TRANSFORMER)
    begin = {n.removeprefix(FORESIGHT): v for n, v in weights.items() if n.startswith(FORESIGHT)}
    weights = {n: v for n, v in weights.items() if not n.startswith(FORESIGHT)}
    transformer = on_meta(lambda: Transformer(without.transformer))
    dtype = torch.bfloat16 if process.device.type == "cuda" else torch.float32
    names = {name: name for name in transformer.state_dict()}
    assign(transformer, weights, names, source, dtype=dtype, device=process.device)
    autoencoder = load_autoencoder(source, config)
    autoencoder.prepare(process.device, torch.bfloat16)
    length = settings.foresight_length
    trained, steps = train_foresight(
        config, settings.foresight, autoencoder, transformer.requires_grad_(False).eval(), process,
        folder=folder, seconds=settings.leg_seconds or length.clock, total_seconds=length.clock,
        total_steps=length.steps, leg_steps=settings.leg_steps,
        core=choose_core(process.device, config.world_style, compiled=settings.compiled),
        compiled=settings.compiled, begin={n: v.float() for n, v in begin.items()} or None,
        log=journal.say, record=journal.record,
    )  # fmt: skip
    if process.leads:
        target = folder / "with-foresight"
        target.mkdir(exist_ok=True)
        (target / "config.json").write_text(config.to_json())
        shutil.copy(source / "autoencoder.safetensors", target)
        added = {FORESIGHT + name: value for name, value in to_half(trained).items()}
        save_file({n: v.contiguous() for n, v in weights.items()} | added, target / TRANSFORMER)
        journal.say(f"saved the model with the foresight of step {steps} in {target}")


def _with_tracks(
    config: ModelConfig, settings: ProceduralRun
) -> tuple[ModelConfig, ModelConfig]:
    """Return a model's configuration without foresight, and with it."""
    flow = config.transformer.scene_flow
    if flow is None or config.transformer.detail is None:
        raise ValueError(
            f"{settings.start_from}: model {config.name!r} has no scene flow or no detail scale; "
            "foresight needs both"
        )

    def tracks(count: int) -> ModelConfig:
        own = dataclasses.replace(flow, tracks=count)
        return dataclasses.replace(
            config, transformer=dataclasses.replace(config.transformer, scene_flow=own)
        )

    return tracks(0), tracks(flow.tracks or settings.foresight.subjects)
