# SPDX-License-Identifier: Apache-2.0
"""Compiles every kernel of the fast path for an NVIDIA GPU, in the sizes of the released model."""

import sys

import torch
from absent_gpu import compile_instead_of_launching

from hydra_model.fast import attention, kernels

FRAMES, HEADS, CHANNELS = 2, 12, 128
TOKENS, MEMORY_TOKENS = 1560, 390
WIDTH = HEADS * CHANNELS


def main(capability: int) -> int:
    compiled = compile_instead_of_launching(capability)
    for dtype in (torch.bfloat16, torch.float32):

        def zeros(*shape, dtype=dtype):
            return torch.zeros(shape, dtype=dtype)

        x, gain = zeros(1, FRAMES, TOKENS, WIDTH), zeros(WIDTH)
        modulation = zeros(1, 1, 1, WIDTH)
        for branch, gate in ((x, modulation), (x, None), (None, None)):
            for lag in (None, zeros(WIDTH, dtype=torch.float32)):
                bias = zeros(1, FRAMES, 1, WIDTH)
                kernels.add_norm(x, branch, gate, modulation, bias, 1e-6, lag)
        wide = zeros(1, FRAMES, TOKENS, 3 * WIDTH)
        angles = zeros(FRAMES, TOKENS, CHANNELS // 2, dtype=torch.float32)
        for part in wide.chunk(3, -1):
            for mean in (True, False):
                kernels.normalise_rotate(part, gain, angles, angles, 1e-6, mean=mean)
        kernels.normalise(x, gain, 1e-6)
        for count in (48, 144):
            counts = zeros(1, count, dtype=torch.float32)
            kernels.text_weights(x, zeros(1, HEADS, count, CHANNELS), counts, 1e-6)
        kernels.gather_patches(x, (30, 52), (2, 2, 2))
        half, weight = (
            zeros(2, TOKENS, HEADS, CHANNELS),
            zeros(2, HEADS, TOKENS, dtype=torch.float32),
        )
        kernels.merge(half, weight, half, weight)
        kernels.join(half, weight, torch.zeros(FRAMES, 5, dtype=torch.int64), TOKENS // 5)
        kernels.scale_rows(zeros(WIDTH, 8960), zeros(WIDTH, dtype=torch.float32))
        for channels in (96, 192, 384):
            kernels.normalise_silu(zeros(3, 5, channels), zeros(channels))
        query, key, value = zeros(1, FRAMES, TOKENS, 3, HEADS, CHANNELS).unbind(3)
        memory = zeros(1, 4, MEMORY_TOKENS, 2, HEADS, CHANNELS)
        windows = torch.zeros(FRAMES, 2, dtype=torch.int64)
        selected = torch.zeros(1, FRAMES, 2, dtype=torch.int64)
        operands = attention.Retrieval(
            query.contiguous(), key, value, *memory.unbind(3), selected, windows, (0, 0)
        )
        if dtype == torch.bfloat16:  # what it runs in at this size
            names = ["triton", "triton-wide"]
            if capability >= 90:
                kernels.add_norm_quantised(x, x, modulation, modulation, modulation, 1e-6)
                kernels.gelu_quantised(zeros(3, 8960))
                names += ["fp8-pairs", "fp8-small-fast", "fp8-plain"]
            for name in names:
                attention.BACKENDS[name](operands)
    print("\n".join(f"{name}: {compiled.count(name)}" for name in sorted(set(compiled))))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
