# SPDX-License-Identifier: Apache-2.0
"""Compiles the fused renderer for an NVIDIA GPU, for the worlds and images of training."""

import sys

import torch
from absent_gpu import compile_instead_of_launching

from hydra_model.procedural.fused.renderer import render_fused
from hydra_model.procedural.motion import PLAIN, RICH
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.renderer import pack_geometry, pack_looks
from hydra_model.procedural.scenes import sample_scenes


def main(capability: int) -> int:
    compiled = compile_instead_of_launching(capability)
    for style in (PLAIN, RICH):
        scenes = sample_scenes(as_seeds(1), style)
        geometry, looks = pack_geometry(scenes, torch.zeros(1)), pack_looks(scenes, 1)
        render_fused(torch.eye(4)[None], geometry, looks, 96, 160, 114.0, 2, style == RICH)
    print("\n".join(compiled))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
