# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros convert``: the released files -> a model folder for ``--model``."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "turn the released HyDRA files into a model folder"

DTYPES = ("keep", "float32", "bfloat16", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path,
        help="folder with hydra.ckpt, Wan2.1_VAE.pth, models_t5_umt5-xxl-enc-bf16.pth and "
        "google/umt5-xxl, at any depth",
    )  # fmt: skip
    parser.add_argument("target", type=Path, help="the model folder to write")
    parser.add_argument("--dtype", choices=DTYPES, default="keep", help="number format to write")
    parser.add_argument(
        "--config", type=Path, help="config.json of a model of other sizes than the release"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="write into a folder that has a model already"
    )


def run(options: argparse.Namespace) -> int:
    """Convert; wrong files are a CheckpointError (a ValueError) that names them."""
    import torch

    from hydra_model.checkpoints import convert
    from hydra_model.config import ModelConfig
    from hydra_ros.progress import ProgressReport

    if (options.target / "config.json").exists() and not options.overwrite:
        raise ValueError(f"{options.target} has a model already; give --overwrite to replace it")
    config = None
    if options.config:
        config = ModelConfig.from_json(options.config.read_text(encoding="utf-8"))
    with ProgressReport() as report:
        report.stage("Looking for the files")
        written = convert(
            options.source,
            options.target,
            config,
            dtype=None if options.dtype == "keep" else getattr(torch, options.dtype),
            progress=lambda message, share: report.stage(message) if share < 1 else None,
        )
    files = [path for path in options.target.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 2**30
    print(f"Model {written.name!r}: {len(files)} files, {size:.2f} GiB, in {options.target}")
    print(f"Use it with --model {options.target}, or as the node's parameter model")
    return 0
