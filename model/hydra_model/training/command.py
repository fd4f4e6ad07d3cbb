# SPDX-License-Identifier: Apache-2.0
"""The command behind ``hydra-ros train``; with ``torchrun`` it is ``-m`` this module."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HELP = "train the autoencoder, the transformer or its foresight, as a config file says"

CONFIGS = Path(__file__).parent / "configs"
# What a synthetic run changes: no files are needed and none is left, every step is printed, and
# the rate is one that random weights can stand.
SYNTHETIC = {"data": "synthetic", "start": "random", "autoencoder": None}
SYNTHETIC_TRAINING = {
    "log_every": 1, "save_every": 0, "sample_every": 0, "warmup": 1, "learning_rate": 1e-4
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "stage", choices=("autoencoder", "transformer", "foresight"), help="what to train"
    )  # fmt: skip
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", type=Path, help="YAML file")
    source.add_argument("--preset", help=f"a config that comes along: {', '.join(presets())}")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="FIELD=VALUE",
        help="change a field, such as training.steps=100",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="folder of the run instead of the config's")
    parser.add_argument(
        "--world-style", choices=("plain", "rich"), default=None,
        help="procedural worlds to train on instead of the config's",
    )  # fmt: skip
    parser.add_argument(
        "--synthetic", type=int, metavar="STEPS",
        help="fine-tuning: so many steps on made-up clips from random weights, printing seconds, "
        "memory and loss of each",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=1, help="processes, one a GPU")


def run(options: argparse.Namespace) -> int:
    """Train; a config that is wrong is a ``ValueError`` before anything is started."""
    settings = read_settings(options)
    if options.processes < 1:
        raise ValueError(f"processes is {options.processes}; accepted is 1 or more")
    from hydra_model.loading import choose_device

    choose_device(settings.device)
    if options.processes > 1:
        return subprocess.call(
            [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc-per-node", str(options.processes), "-m", "hydra_model.training.command",
                *_arguments(options),
            ]
        )  # fmt: skip
    from hydra_model.training.distributed import join
    from hydra_model.training.finetune_run import FinetuneRun, run_finetune
    from hydra_model.training.foresight_run import run_foresight
    from hydra_model.training.journal import Journal
    from hydra_model.training.procedural_run import run_procedural

    process = join(settings.device)
    journal = Journal(Path(settings.output), leads=process.leads)
    try:
        if isinstance(settings, FinetuneRun):
            run_finetune(settings, process, journal)
        elif options.stage == "foresight":
            run_foresight(settings, process, journal)
        else:
            run_procedural(
                settings, process, journal, only_autoencoder=options.stage == "autoencoder"
            )
    finally:
        journal.close()
        import torch.distributed as dist

        if dist.is_initialized():
            dist.destroy_process_group()
    return 0


def presets() -> list[str]:
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def read_settings(options: argparse.Namespace) -> Any:
    """Return the ``ProceduralRun`` or ``FinetuneRun`` that the options describe."""
    from hydra_model.training.finetune_run import FinetuneRun
    from hydra_model.training.procedural_run import ProceduralRun
    from hydra_model.training.settings import read_yaml, with_overrides
    from hydra_model.typed_values import build

    path = options.config
    if path is None:
        if options.preset not in presets():
            raise ValueError(f"preset {options.preset!r}; accepted: {', '.join(presets())}")
        path = CONFIGS / f"{options.preset}.yaml"
    values = read_yaml(path)
    kinds = {"procedural": ProceduralRun, "finetune": FinetuneRun}
    recipe = with_overrides(values, options.overrides).get("recipe", "procedural")
    if recipe not in kinds:
        raise ValueError(f"{path}: recipe is {recipe!r}; accepted: {', '.join(sorted(kinds))}")
    kind = kinds[recipe]
    if options.synthetic is not None:
        if kind is not FinetuneRun:
            raise ValueError(f"--synthetic is for the recipe finetune; {path} has another")
        values.update(SYNTHETIC)
        training = dict(values.get("training") or {})
        values["training"] = {**training, **SYNTHETIC_TRAINING, "steps": options.synthetic}
    values = with_overrides(values, options.overrides)
    if options.world_style is not None:
        if kind is not ProceduralRun:
            raise ValueError(f"--world-style is for the recipe procedural; {path} has another")
        values["world_style"] = options.world_style
    if options.output is not None:
        values["output"] = str(options.output)
    settings: Any = build(kind, values, str(path))
    if kind is ProceduralRun:
        try:
            settings.check_lengths(only="" if options.stage == "transformer" else options.stage)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    elif options.stage != "transformer":
        raise ValueError(
            f"{path} fine-tunes a transformer; train {options.stage} has no such recipe"
        )
    return settings


def _arguments(options: argparse.Namespace) -> list[str]:
    words = [options.stage]
    for name in ("config", "preset", "output", "world-style", "synthetic"):
        value = getattr(options, name.replace("-", "_"))
        if value is not None:
            words += [f"--{name}", str(value)]
    for override in options.overrides:
        words += ["--set", override]
    return words


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m hydra_model.training.command",
        description=HELP,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_arguments(parser)
    try:
        code = run(parser.parse_args())
    except (ValueError, OSError) as error:
        # Not parser.error, which would take Python down: see leave().
        parser.print_usage(sys.stderr)
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        code = 2
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        from hydra_model.training.distributed import leave

        leave(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
