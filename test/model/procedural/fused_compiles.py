# SPDX-License-Identifier: Apache-2.0
"""Compiles the fused renderer for an NVIDIA H100 without one."""

import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hydra_model.procedural.fused.renderer import WARPS, _render, constants
from hydra_model.procedural.motion import RICH
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.renderer import pack_geometry, pack_looks
from hydra_model.procedural.scenes import sample_scenes

TYPES = {"frames": "*u8", "ids": "*u8", "focal": "fp32"}
INTEGERS = ("height", "width", "tiles_across", "tiles")


def main() -> int:
    cubin = compiled(RICH)  # whose kernel has all of the other's code
    print(f"{len(cubin)} bytes")
    return 0


def compiled(style) -> bytes:
    scenes = sample_scenes(as_seeds(1), style)
    geometry, looks = pack_geometry(scenes, torch.zeros(1)), pack_looks(scenes, 1)
    fixed = constants(geometry, looks, 2, style == RICH)
    names = _render.arg_names
    signature = {
        name: "constexpr" if name in fixed
        else TYPES.get(name, "i32" if name in INTEGERS else "*fp32")
        for name in names
    }  # fmt: skip
    source = ASTSource(
        _render, signature, constexprs={(names.index(name),): v for name, v in fixed.items()}
    )
    kernel = triton.compile(
        source, target=GPUTarget("cuda", 90, 32), options={"num_warps": WARPS, "num_stages": 1}
    )
    return kernel.asm["cubin"]


if __name__ == "__main__":
    sys.exit(main())
