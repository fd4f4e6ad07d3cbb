# SPDX-License-Identifier: Apache-2.0
"""Train the default model: ``torchrun -m hydra_model.training FOLDER`` (or plain python).

Trains the autoencoder, then the transformer, then, if asked to, a few-step model, each for a
share of the time; started again on the same folder it goes on where it stopped. The results
are model folders (``FOLDER/model``, ``FOLDER/few-step``) with bfloat16 averaged weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from hydra_model.training.autoencoder import AutoencoderTraining
from hydra_model.training.distributed import join
from hydra_model.training.few_step import FewStepTraining
from hydra_model.training.journal import Journal
from hydra_model.training.procedural_run import Length, ProceduralRun, run_procedural
from hydra_model.training.transformer import TransformerTraining


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="hydra_model.training", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="default", help="model configuration by name")
    parser.add_argument("--config", type=Path, help="model configuration as a JSON file instead")
    parser.add_argument(
        "--autoencoder", type=Path, help="model folder whose trained autoencoder is used as it is"
    )
    parser.add_argument(
        "--start-from", type=Path, help="model folder whose weights are begun with: the "
        "autoencoder's, or with --autoencoder the transformer's",
    )  # fmt: skip
    parser.add_argument("--autoencoder-seconds", type=float, default=170)
    parser.add_argument(
        "--transformer-seconds",
        type=float,
        default=900,
        help="planned length of the whole run; the rate's fall depends on it",
    )
    parser.add_argument("--leg-seconds", type=float, default=None,
                        help="stop this leg earlier; the next one goes on")  # fmt: skip
    parser.add_argument(
        "--few-step-seconds", type=float, default=0, help="distil to a few steps at the end"
    )
    parser.add_argument("--few-steps", type=int, default=FewStepTraining.steps)
    parser.add_argument(
        "--teacher", type=Path, help="model folder to distil; nothing else is trained then"
    )
    parser.add_argument("--worlds", type=int, default=TransformerTraining.worlds)
    parser.add_argument("--clips", type=int, default=AutoencoderTraining.clips)
    parser.add_argument("--draws", type=int, default=TransformerTraining.draws)
    parser.add_argument(
        "--world-style", choices=("plain", "rich"), help="worlds instead of the configuration's"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--samples", action="store_true", help="show a world at every save")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    settings = ProceduralRun(
        output=str(options.folder),
        model=str(options.config or options.preset),
        world_style=options.world_style,
        borrowed_autoencoder=_text(options.autoencoder),
        start_from=_text(options.start_from),
        teacher=_text(options.teacher),
        autoencoder_length=Length(seconds=options.autoencoder_seconds),
        transformer_length=Length(seconds=options.transformer_seconds),
        few_step_length=Length(seconds=options.few_step_seconds),
        leg_seconds=options.leg_seconds,
        compiled=not options.eager,
        samples=options.samples,
        device=options.device,
        autoencoder=AutoencoderTraining(clips=options.clips, worlds=options.worlds),
        transformer=TransformerTraining(worlds=options.worlds, draws=options.draws),
        few_step=FewStepTraining(steps=options.few_steps, worlds=options.worlds),
    )
    process = join(options.device)
    journal = Journal(options.folder, leads=process.leads)
    run_procedural(settings, process, journal)
    journal.close()
    if process.ranks > 1:
        torch.distributed.destroy_process_group()
    return 0


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


if __name__ == "__main__":
    sys.exit(main())
