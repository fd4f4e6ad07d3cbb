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


def check_rows(what, got, expected):
    """Rows in 8 bits are those that torch rounds, but for ties of scales that differ in a bit."""
    values = got.values.float() * got.scales
    check(f"{what} in 8 bits", values, expected.values.float() * expected.scales, 2e-3)
    if got.lengths is not None:
        check(f"{what}, lengths", got.lengths, expected.lengths)


def check_fp8_passes(x, branch, gate, scale):
    for keep, own in ((True, branch), (False, branch), (True, None)):
        arguments = (x, own, gate, scale, torch.randn(BATCH, FRAMES, 1, WIDTH), 1e-6)
        got = kernels.add_norm_quantised(*arguments, keep=keep)
        expected = passes.add_norm_quantised(*arguments, keep=keep)
        check("add_norm_quantised, sum", got[0], expected[0])
        if keep:
            check("add_norm_quantised, norm", got[1], expected[1])
        else:
            assert got[1] is None
        check_rows("add_norm_quantised", got[2], expected[2])
    rows = torch.randn(3, 5, 5000)
    check_rows("quantise", kernels.quantise(rows), passes.quantise(rows))
    check_rows("gelu_quantised", kernels.gelu_quantised(rows), passes.gelu_quantised(rows))


def check_fp8_attention():
    frames, tokens, memory_tokens, heads, channels = 6, 75, 21, 2, 32
    key_mean = 4 * torch.randn(heads, channels)  # all keys have it: it must not cost accuracy
    query, key, value = torch.randn(1, frames, tokens, 3, heads, channels).unbind(3)
    memory_key, memory_value = torch.randn(1, 3, memory_tokens, 2, heads, channels).unbind(3)
    key, memory_key = key + key_mean, memory_key + key_mean
    windows = torch.tensor([[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [3, 4, 5]])
    selected = torch.tensor([[[2, 0], [1, 2], [0, 1], [2, 1], [0, 2], [1, 0]]])
    operands = attention.Retrieval(
        query.contiguous(), key, value, memory_key, memory_value, selected, windows,
        (0, 0, 1, 2, 3, 3),
    )  # fmt: skip
    expected = attention.gather(operands)
    # Tiles hold whole frames and left-over tokens (75 = 2 * 32 + 11), or, at 128, left-over tokens
    # alone. Tensor cores take no fewer than 32 keys in 8 bits.
    for tiling in (
        {"queries": 32, "keys": 32, "descriptors": False},
        {"queries": 128, "keys": 32, "rest": True},
        {"queries": 64, "keys": 64, "exact_sums": False},
        {"queries": 64, "keys": 128},
    ):
        got = attention.in_8_bits(operands, **tiling)
        # Each of queries, keys, values and weights is off by 2.6 % in the mean of squares: scores
        # of size 1 then by 3.7 %, and all of it together by 5.2 %.
        check(f"attention in 8 bits, {tiling}", got, expected, 0.06)
        rows = attention.in_8_bits(operands, narrow=True, **tiling)
        check("to 8 bits", rows.values.float() * rows.scales, expected.flatten(-2), 0.07)


def check_join() -> None:
    """Five frames need three each of four calls' answers, which two frames share."""
    out, weight = torch.randn(4, 2 * TOKENS, HEADS, CHANNELS), torch.randn(4, HEADS, 2 * TOKENS)
    places = torch.tensor([[0, 3, 5], [7, 2, 1], [4, 6, 0], [3, 5, 7], [1, 1, 2]])
    got = kernels.join(out, 4 * weight, places, TOKENS)
    expected = attention.join(out, 4 * weight, places, TOKENS)
    for part, a, b in zip(("sums", "weights"), got, expected, strict=True):
        check(f"join, {part}", a, b)


def check_patches():
    """Patches are copied bit for bit; what is over at the ends of time, rows, columns is left."""
    for frames, grid, stride in (
        (4, (4, 6), (2, 2, 2)),
        (5, (5, 7), (2, 2, 2)),
        (7, (9, 4), (3, 4, 1)),
        (2, (2, 2), (2, 2, 2)),
    ):
        y = torch.randn(BATCH, frames, grid[0] * grid[1], WIDTH)
        for own in (y, y.bfloat16()):
            got = kernels.gather_patches(own, grid, stride)
            same = torch.equal(got, passes.gather_patches(own, grid, stride))
            print(f"gather_patches, {own.dtype}, {frames} frames of {grid}, {stride}: {same}")
            if not same:
                failed.append("gather_patches")


@torch.inference_mode()
def check_recorded():
    """Forwards and pairs that are replayed are those that are launched, whatever changes."""
    from hydra_model.config import TransformerConfig
    from hydra_model.fast.acceleration import Acceleration
    from hydra_model.fast.engine import Engine
    from hydra_model.transformer import Transformer

    config = TransformerConfig(
        dim=64, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16, text_dim=16,
        latent_channels=4, top_k=2,
    )  # fmt: skip
    model = Transformer(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    plain = Engine(model, Acceleration(attention="gather"))
    recorded = Engine(model, Acceleration(attention="gather", graph=True, paired=True))
    for frames, prompt in itertools.product((6, 4), range(2)):
        times = (torch.arange(frames) - frames, torch.arange(frames))
        own, negative = (
            model.prepare(
                context, cameras[0], cameras[1], context_times=times[0], target_times=times[1],
                text=torch.randn(1, 8, 16),
            )
            for context, cameras in [
                (torch.randn(1, 4, frames, 8, 12), torch.randn(2, 1, frames, 1, 12))
            ] * 2
        )  # fmt: skip
        for step in range(5):
            target, sigma = torch.randn(1, 4, frames, 8, 12), torch.rand(1)
            selected, expected = [], []
            got = recorded.forward(target, sigma, own, selections=selected)
            check(f"recorded, {frames} frames, prompt {prompt}, step {step}", got,
                  plain.forward(target, sigma, own, selections=expected))  # fmt: skip
            for one, other in zip(selected, expected, strict=True):
                assert torch.equal(one, other)
            both = recorded.pair(target, sigma, own, negative)
            for got, expected in zip(both, plain.pair(target, sigma, own, negative), strict=True):
                check("recorded pair", got, expected, 1e-4)
    assert len(recorded._recorded._recordings) == 4, recorded._recorded._recordings.keys()


@torch.no_grad()
def main() -> int:
    torch.manual_seed(0)
    on_gpu = torch.cuda.is_available() and "TRITON_INTERPRET" not in os.environ
    if on_gpu:
        torch.set_default_device("cuda")
    x, branch = torch.randn(2, BATCH, FRAMES, TOKENS, WIDTH)
    gate, scale = torch.randn(2, BATCH, 1, 1, WIDTH)
    biases = [(BATCH, FRAMES, 1), (BATCH, FRAMES, TOKENS), (1, 1, 1)]
    for shape, (own, own_gate), lag in itertools.product(
        biases, ((branch, gate), (branch, None), (None, None)), (None, torch.randn(WIDTH))
    ):
        arguments = (x, own, own_gate, scale, torch.randn(*shape, WIDTH), 1e-6, lag)
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
    got = kernels.normalise_rotate(part, gain, cosine, sine, 1e-6, mean=False)
    check("normalise_rotate without means", got[0], expected[0])
    assert got[1] is None
    for count in (16, 48):
        counts = torch.randn(BATCH, count)
        counts[0, count // 2 :] = float("-inf")
        operands = (x, torch.randn(BATCH, HEADS, count, CHANNELS), counts, 1e-6)
        check("text_weights", kernels.text_weights(*operands), passes.text_weights(*operands))
    check("normalise", kernels.normalise(x, gain, 1e-6), passes.normalise(x, gain, 1e-6))
    check_patches()
    halves = torch.randn(2, BATCH, TOKENS, HEADS, CHANNELS)
    weights = torch.randn(2, BATCH, HEADS, TOKENS)
    operands = (halves[0], weights[0], halves[1], weights[1])
    check("merge", kernels.merge(*operands), attention.merge(*operands))
    out = torch.zeros(BATCH, TOKENS + 3, HEADS, CHANNELS)
    kernels.merge(*operands, out[:, 2:-1])
    check("merge into some tokens", out[:, 2:-1], attention.merge(*operands))
    assert not out[:, :2].any()
    assert not out[:, -1:].any()
    check_join()
    matrix, row = torch.randn(5, 3000), torch.randn(5)
    check("scale_rows", kernels.scale_rows(matrix, row), passes.scale_rows(matrix, row))
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
    if on_gpu:
        check_recorded()
    else:
        from interpreted_fp8 import round_as_a_gpu

        round_as_a_gpu()
    if not on_gpu or torch.cuda.get_device_capability() >= (8, 9):
        check_fp8_passes(*torch.randn(2, BATCH, FRAMES, TOKENS, WIDTH), gate, scale)
    if not on_gpu or torch.cuda.get_device_capability() >= (9, 0):
        check_fp8_attention()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
