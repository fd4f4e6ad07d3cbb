# SPDX-License-Identifier: Apache-2.0
"""How long each renderer takes for a training batch of procedural worlds.

    python -m benchmarks.rendering                        # on a GPU: 16 worlds of 154 frames
    python -m benchmarks.rendering --style rich --tiles   # the fused kernel's tiles and warps too
    python -m benchmarks.rendering --device cpu --worlds 1 --frames 8
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch

from hydra_model.procedural import render_worlds, sample_worlds
from hydra_model.procedural.cores import Core, compile_core, render_core, render_pieces
from hydra_model.procedural.motion import STYLES
from hydra_model.procedural.renderer import differing, fused_core

TILES = ((8, 8), (16, 4), (16, 8), (32, 4), (16, 16))
WARPS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=16)
    parser.add_argument("--frames", type=int, default=154)
    parser.add_argument("--style", choices=STYLES, default=STYLES[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiles", action="store_true", help="try other tiles and warps")
    parser.add_argument("--compiled", action="store_true", help="the compiled pieces too: a minute")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    began = time.perf_counter()
    worlds = sample_worlds(range(options.worlds), style=options.style, device=device)
    _wait(device)
    print(f"drawing {options.worlds} worlds: {time.perf_counter() - began:.2f} s")
    times = torch.linspace(-5, 5, options.frames, dtype=torch.float64, device=device)
    print("| renderer | first, s | ms | share of pixels off |\n|---|---|---|---|")
    for name, core in _cores(device, options):
        show = partial(render_worlds, worlds, times, renderer=core)
        first = _seconds(show, device)
        then = sorted(_seconds(show, device) for _ in range(options.repeats))
        off = differing(core, device, options.style)
        middle = then[len(then) // 2]
        print(f"| {name} | {first:.2f} | {1000 * middle:.1f} | {off:.2g} |", flush=True)


def _cores(device: torch.device, options: argparse.Namespace) -> Iterator[tuple[str, Core]]:
    fused = fused_core(str(device), options.style)
    if fused is not None:
        yield "fused", fused
        if options.tiles:
            for tile in TILES:
                for warps in WARPS:
                    name = f"fused, {tile[0]}x{tile[1]}, {warps} warps"
                    yield name, partial(fused, tile=tile, warps=warps)
    if options.compiled:
        yield "compiled", compile_core()
    yield ("eager", render_core) if device.type == "cuda" else ("in pieces", render_pieces)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
