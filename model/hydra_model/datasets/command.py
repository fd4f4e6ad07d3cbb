# SPDX-License-Identifier: Apache-2.0
"""The command behind ``hydra-ros prepare`` and ``python -m hydra_model.datasets``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

HELP = "encode a data set's clips and captions once, for training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", help="hm-world:FOLDER, or procedural[:COUNT[:FIRST_SEED]] to try it"
    )
    parser.add_argument("output", type=Path, help="folder for the shards; goes on if there are any")
    parser.add_argument(
        "--model", default="default",
        help="model folder whose autoencoder and text encoder are used, or default",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--clips-per-shard", type=int, default=16, help="clips in one file")
    parser.add_argument(
        "--part", type=_part, default=(0, 1), metavar="I/N",
        help="take every N-th clip, from the I-th on (from 0), to share the work of one folder "
        "among several processes",
    )  # fmt: skip
    parser.add_argument(
        "--most-unusable", type=float, default=0.5,
        help="share of unusable clips from which on nothing is encoded at all",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Prepare; wrong input is a ``ValueError``. What was skipped is counted by reason."""
    from hydra_model.checkpoints import load_autoencoder, load_config, open_text_encoder
    from hydra_model.datasets.opening import open_clips
    from hydra_model.datasets.prepare import ClipEncoder, describe, prepare
    from hydra_model.loading import choose_device
    from hydra_model.resources import weights_folder

    if options.clips_per_shard < 1:
        raise ValueError(f"clips per shard is {options.clips_per_shard}; accepted is 1 or more")
    folder = weights_folder() if options.model == "default" else Path(options.model)
    config = load_config(folder)
    device = choose_device(options.device)
    source = open_clips(options.data, config, device=str(device))
    show = _Progress()
    embed = None
    if config.text is not None:
        text = open_text_encoder(
            folder, config, device=device, cache_folder=options.output / "captions"
        )
        # Before the autoencoder is loaded: the text encoder takes most of a GPU's memory.
        text.fill_cache(["", *source.captions()], lambda n, all: show("Embedding captions", n, all))
        embed = text.embed
    autoencoder = load_autoencoder(folder, config, device=device).prepare(device)
    done = prepare(
        source,
        ClipEncoder(config, autoencoder, embed),
        options.output,
        clips_per_shard=options.clips_per_shard,
        part=options.part,
        most_unusable=options.most_unusable,
        progress=show,
    )
    again = f" ({done.redone} of them again: their shard was damaged)" if done.redone else ""
    print(f"{done.encoded} clips encoded{again}, {done.already} were there already")
    print(f"skipped: {describe(done.skipped)}; each is named in {options.output}/index*.json")
    return 0


def _part(text: str) -> tuple[int, int]:
    try:
        i, n = (int(number) for number in text.split("/"))
    except ValueError:
        i, n = -1, 0
    if not 0 <= i < n:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted are parts such as 0/4 to 3/4")
    return i, n


class _Progress:
    """A line to stderr every few seconds, with the time that is left."""

    def __init__(self, every: float = 5.0) -> None:
        self.every = every
        self.stage, self.began, self.shown, self.first = "", 0.0, 0.0, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self.began, self.shown, self.first = stage, now, now - self.every, done
        if done < total and now - self.shown < self.every:
            return
        self.shown = now
        rate = (done - self.first) / (now - self.began) if done > self.first else 0.0
        left = f", {_span((total - done) / rate)} left" if rate and done < total else ""
        print(f"{stage}: {done} of {total}{left}", file=sys.stderr, flush=True)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
