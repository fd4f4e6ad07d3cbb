# SPDX-License-Identifier: Apache-2.0
"""Compiles training's retrieval attention for a GPU, in the sizes of the default model."""

import sys

import torch
from absent_gpu import compile_instead_of_launching

from hydra_model.training import retrieval_kernels as kernels


def main(capability: int) -> int:
    compiled = compile_instead_of_launching(capability)
    for dtype in (torch.bfloat16, torch.float32):
        frames = torch.zeros(1, 20, 60, 6, 64, dtype=dtype)
        every = torch.zeros(1, 40, 60, 6, 64, dtype=dtype)
        index = torch.zeros(1, 20, 13, dtype=torch.int64)
        out, weight = kernels.attend_frames(frames, every, every, index)
        kernels.attend_frames_backward(frames, every, every, index, out, weight, frames)
    print("\n".join(f"{name}: {compiled.count(name)}" for name in sorted(set(compiled))))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
