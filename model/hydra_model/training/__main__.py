# SPDX-License-Identifier: Apache-2.0
"""Train the default model: ``torchrun -m hydra_model.training FOLDER`` (or plain python).

Trains the autoencoder, then the transformer, each for a share of the time; started again on
the same folder it goes on where it stopped. The result is a model folder
(``FOLDER/model``) with bfloat16 averaged weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import time
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import load_config
from hydra_model.config import ModelConfig
from hydra_model.procedural import compile_core
from hydra_model.procedural.renderer import Core, render_core
from hydra_model.training.autoencoder import (
    AutoencoderTraining,
    measure_latents,
    train_autoencoder,
)
from hydra_model.training.distributed import join
from hydra_model.training.state import to_half
from hydra_model.training.transformer import TransformerTraining, train_transformer


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="hydra_model.training", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="default", help="model configuration by name")
    parser.add_argument("--config", type=Path, help="model configuration as a JSON file instead")
    parser.add_argument(
        "--autoencoder", type=Path, help="model folder whose trained autoencoder is used as it is"
    )
    parser.add_argument("--autoencoder-seconds", type=float, default=170)
    parser.add_argument(
        "--transformer-seconds",
        type=float,
        default=900,
        help="planned length of the whole run; the rate's fall depends on it",
    )
    parser.add_argument("--leg-seconds", type=float, default=None,
                        help="stop this leg earlier; the next one goes on")  # fmt: skip
    parser.add_argument("--worlds", type=int, default=TransformerTraining.worlds)
    parser.add_argument("--clips", type=int, default=AutoencoderTraining.clips)
    parser.add_argument("--draws", type=int, default=TransformerTraining.draws)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    options = parser.parse_args(arguments)

    process = join(options.device)
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.cache_size_limit = 64
    folder, model_folder = options.folder, options.folder / "model"
    if process.leads:
        model_folder.mkdir(parents=True, exist_ok=True)
    if options.config:
        config = ModelConfig.from_json(options.config.read_text())
    else:
        config = ModelConfig.from_name(options.preset)
    core = None if options.eager else compile_core()
    # The autoencoder's training is over before its compilation would have paid.
    plain: Core | None = render_core if process.device.type == "cuda" else None
    log_file = (folder / "train.log").open("a") if process.leads else None

    def log(line: str) -> None:
        print(line, flush=True)
        if log_file:
            print(line, file=log_file, flush=True)

    began = time.monotonic()
    done = folder / "autoencoder.done"
    if options.autoencoder and process.leads and not done.exists():
        trained = load_config(options.autoencoder).autoencoder
        shutil.copy(options.autoencoder / "autoencoder.safetensors", model_folder)
        config = dataclasses.replace(config, autoencoder=trained)
        (model_folder / "config.json").write_text(config.to_json())
        done.write_text(f"from {options.autoencoder.name}\n")
    if not options.autoencoder and not done.exists():
        training = AutoencoderTraining(clips=options.clips, worlds=options.worlds)
        weights, steps = train_autoencoder(
            config, training, process, folder=folder, seconds=options.autoencoder_seconds,
            total_steps=10**6, core=plain, compiled=False, log=log,
        )  # fmt: skip
        config = measure_latents(
            config, weights, process.device, worlds=4 * options.worlds, at_once=options.worlds,
            core=plain,
        )  # fmt: skip
        if process.leads:
            save_file(to_half(weights), model_folder / "autoencoder.safetensors")
            (model_folder / "config.json").write_text(config.to_json())
            done.write_text(f"{steps} steps\n")
            log(f"autoencoder done after {steps} steps, {time.monotonic() - began:.0f} s")
    if process.ranks > 1:
        torch.distributed.barrier()
    config = ModelConfig.from_json((model_folder / "config.json").read_text())
    autoencoder = Autoencoder(config.autoencoder)
    autoencoder.load_state_dict(load_file(model_folder / "autoencoder.safetensors"))
    autoencoder.prepare(process.device, torch.bfloat16)
    if not options.eager:
        autoencoder.encode_moments = torch.compile(  # type: ignore[method-assign]
            autoencoder.encode_moments, dynamic=False
        )

    def publish(weights: dict[str, torch.Tensor], step: int) -> None:
        target = model_folder / "transformer.safetensors"
        save_file(to_half(weights), target.with_suffix(".partial"))
        target.with_suffix(".partial").replace(target)
        log(f"saved the averaged weights of step {step}")

    train_transformer(
        config, TransformerTraining(worlds=options.worlds, draws=options.draws),
        autoencoder, process, folder=folder,
        seconds=options.leg_seconds or options.transformer_seconds,
        total_seconds=options.transformer_seconds, core=core, compiled=not options.eager,
        on_save=publish, log=partial(log),
    )  # fmt: skip
    if process.ranks > 1:
        torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
