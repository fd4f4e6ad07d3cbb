# SPDX-License-Identifier: Apache-2.0
"""The benchmark's part on the autoencoder, and on what may decode in its place."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import Tensor

from hydra_model.autoencoder_passes import residual_block
from hydra_model.benchmark.made_up import fill
from hydra_model.benchmark.measure import measure
from hydra_model.benchmark.runs import Results
from hydra_model.benchmark.subjects import forward_inputs
from hydra_model.fast.decoding import compile_decoding
from hydra_model.tiny_decoder import TinyDecoder, fits
from hydra_model.world import World

STREAM = "decode, as a stream"


def run_autoencoder(
    world: World, results: Results, *, repeats: int, compiled: bool | None = None
) -> None:
    """Time encoding and decoding of a full chunk, and decoding until the first frame.

    ``compiled`` adds the compiled stream, by default on a GPU. A model with latents of Wan 2.1 is
    also decoded by the tiny decoder, with made-up weights.
    """
    config, device = world.config, world.device
    size = (3, config.chunk_frames, config.video.height, config.video.width)
    video = (torch.rand(1, *size) * 2 - 1).to(device)
    latents = forward_inputs(world).target.float()
    autoencoder = world.autoencoder
    work: dict[str, Callable[[], Tensor]] = {
        "encode": lambda: autoencoder.encode(video),
        "decode, whole": lambda: autoencoder.decode(latents),
        STREAM: lambda: torch.cat(list(autoencoder.decode_stream(latents)), dim=2),
        "decode, first frame": lambda: next(iter(autoencoder.decode_stream(latents))),
    }
    if device.type == "cuda" if compiled is None else compiled:
        work |= _compiled(world, work[STREAM])
    if fits(config.autoencoder):
        work |= _tiny(world, latents)
    expected: Tensor | None = None
    trials = (False, True) if device.type == "cuda" else (False,)
    for trial, (name, run) in itertools.product(trials, work.items()):
        # With trials cuDNN times its algorithms at the first sight of every shape.
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=trial, allow_tf32=True)
        row: dict[str, float | str] = {}
        with torch.inference_mode(), flags:
            found = asdict(measure(run, device, repeats=repeats))
            if name == STREAM:
                expected = run()
            elif "compiled" in name and expected is not None:
                row["error"] = ((run() - expected).norm() / expected.norm()).item()
        what = f"{name}, cuDNN trials" if trial else name
        frames = 1 if "first" in name else size[1]
        results.add("autoencoder", what=what, frames=frames, **found, **row)


def _compiled(world: World, stream: Callable[[], Tensor]) -> dict[str, Callable[[], Tensor]]:
    """Return the stream by compiled blocks, nothing where they do not compile."""
    autoencoder, video = world.autoencoder, world.config.video
    blocks = compile_decoding(autoencoder, video.height, video.width)
    autoencoder.decoder_block = residual_block

    def run() -> Tensor:
        autoencoder.decoder_block = blocks
        try:
            return stream()
        finally:
            autoencoder.decoder_block = residual_block

    return {} if blocks.failed else {"decode, as a stream, compiled": run}


def _tiny(world: World, latents: Tensor) -> dict[str, Callable[[], Tensor]]:
    dtype = world.transformer.head.linear.weight.dtype
    with world.device:
        decoder = TinyDecoder()
    fill(decoder, torch.Generator(world.device).manual_seed(2))
    decoder.prepare(world.device, dtype)
    return {
        "tiny decoder, as a stream": lambda: decoder.decode(latents),
        "tiny decoder, first frame": lambda: next(iter(decoder.decode_stream(latents))),
    }
