# SPDX-License-Identifier: Apache-2.0
"""Compares the Triton kernels with the plain passes; exits with 1 where they differ."""

import itertools
import os
import sys

import torch

from hydra_model.fast import attention, kernels, passes

BATCH, FRAMES, TOKENS, HEADS, CHANNELS = 2, 4, 9, 3, 16
WIDTH = HEADS * CHANNELS
failed = []


def check(what, got, expected, tolerance=1e-5):
    error = ((got - expected).norm() / expected.norm()).item()
    print(f"{what}: {error:.2g}")
    if not error < tolerance:
        failed.append(what)


@torch.no_grad()
def main() -> int:
    torch.manual_seed(0)
    if torch.cuda.is_available() and "TRITON_INTERPRET" not in os.environ:
        torch.set_default_device("cuda")
    x, branch = torch.randn(2, BATCH, FRAMES, TOKENS, WIDTH)
    gate, scale = torch.randn(2, BATCH, 1, 1, WIDTH)
    biases = [(BATCH, FRAMES, 1), (BATCH, FRAMES, TOKENS), (1, 1, 1)]
    for shape, (own, own_gate) in itertools.product(
        biases, ((branch, gate), (branch, None), (None, None))
    ):
        arguments = (x, own, own_gate, scale, torch.randn(*shape, WIDTH), 1e-6)
        pairs = zip(kernels.add_norm(*arguments), passes.add_norm(*arguments), strict=True)
        for part, (got, expected) in zip(("sum", "norm"), pairs, strict=True):
            check(f"add_norm, {part}, bias {shape}", got, expected)
    wide = torch.randn(BATCH, FRAMES, TOKENS, 3 * WIDTH)
    cosine, sine = torch.randn(2, FRAMES, TOKENS, CHANNELS // 2)
    gain = torch.randn(WIDTH)
    for part in wide.chunk(3, -1):
        got = kernels.normalise_rotate(part, gain, cosine, sine, 1e-6)
        expected = passes.normalise_rotate(part, gain, cosine, sine, 1e-6)
        check("normalise_rotate", got[0], expected[0])
        check("normalise_rotate, mean", got[1], expected[1])
    check("normalise", kernels.normalise(x, gain, 1e-6), passes.normalise(x, gain, 1e-6))
    halves = torch.randn(2, BATCH, TOKENS, HEADS, CHANNELS)
    weights = torch.randn(2, BATCH, HEADS, TOKENS)
    operands = (halves[0], weights[0], halves[1], weights[1])
    check("merge", kernels.merge(*operands), attention.merge(*operands))
    rows = torch.randn(3, 5, 7, 24)
    expected = torch.nn.functional.silu(torch.nn.functional.normalize(rows, dim=-1) * 24**0.5 * 0.7)
    check("normalise_silu", kernels.normalise_silu(rows, torch.full((24,), 0.7)), expected)
    part = torch.randn(1, FRAMES, TOKENS, 3, HEADS, CHANNELS)
    memory = torch.randn(1, 3, 5, 2, HEADS, CHANNELS)
    query, key, value = part.unbind(3)
    windows = torch.tensor([[0, 1], [0, 1], [1, 2], [2, 3]])
    selected = torch.tensor([[[2, 0], [1, 2], [0, 1], [2, 1]]])
    operands = attention.Retrieval(
        query.contiguous(), key, value, *memory.unbind(3), selected, windows, (0, 0, 1, 2)
    )
    expected = attention.gather(operands)
    check("retrieval in place", attention.triton_in_place(operands), expected)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
