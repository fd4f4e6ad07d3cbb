# SPDX-License-Identifier: Apache-2.0
"""FlexAttention reads the frames that retrieval attention sees, and no others."""

import copy
import dataclasses

import pytest
import torch
from small_transformers import Inputs, random_model
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from hydra_model.fast import flex
from hydra_model.fast.acceleration import Acceleration
from hydra_model.fast.attention import BACKENDS, Retrieval, gather
from hydra_model.fast.engine import accelerate

# Sizes of operands, and of blocks: below and above a frame's, dividing it or not.
SHAPES = {
    "ragged": ({}, 16),
    "a batch, blocks of many frames": ({"batch": 2, "tokens": 24, "memory_tokens": 6}, 128),
    "later frames alone": ({"count": 3, "first": 3}, 16),
    "blocks fit": ({"tokens": 48, "memory_tokens": 16}, 16),
}


def operands(
    batch: int = 1, count: int = 6, first: int = 0, tokens: int = 40, memory_tokens: int = 10
) -> Retrieval:
    """Queries of ``count`` frames from ``first`` on, of 6; windows of 2; 2 of 3 memory frames."""
    generator = torch.Generator().manual_seed(0)

    def normal(frames: int, size: int) -> torch.Tensor:
        return torch.randn(batch, frames, size, 2, 16, generator=generator)

    starts = tuple(min(max(frame - 1, 0), 4) for frame in range(first, first + count))
    chosen = torch.rand(batch, count, 3, generator=generator).argsort(-1)[..., :2]
    return Retrieval(
        normal(count, tokens), normal(6, tokens), normal(6, tokens), normal(3, memory_tokens),
        normal(3, memory_tokens), chosen, torch.tensor(starts)[:, None] + torch.arange(2), starts,
    )  # fmt: skip


@pytest.fixture
def uncompiled(monkeypatch):
    """Let it attend without a compiler: the mask holds, its blocks are not used."""
    options = torch.nn.attention.flex_attention
    monkeypatch.setattr(options, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True, raising=False)
    monkeypatch.setattr(flex, "_attention", lambda: flex_attention)


@pytest.mark.parametrize(("sizes", "block"), SHAPES.values(), ids=SHAPES)
def test_blocks_are_those_that_trying_every_token_finds(sizes, block):
    made = flex.block_mask(operands(**sizes), block)
    tried = create_block_mask(
        made.mask_mod, sizes.get("batch", 1), None, *made.seq_lengths, device="cpu",
        BLOCK_SIZE=block,
    )  # fmt: skip
    assert torch.equal(made.to_dense(), tried.to_dense())
    assert torch.equal(made.kv_num_blocks, tried.kv_num_blocks)
    assert torch.equal(made.full_kv_num_blocks, tried.full_kv_num_blocks)


@pytest.mark.parametrize("sizes", [sizes for sizes, _ in SHAPES.values()], ids=SHAPES)
def test_attention_under_the_mask_is_retrieval_attention(uncompiled, sizes):
    at = operands(**sizes)
    assert (BACKENDS["flex"](at) - gather(at)).abs().max() < 1e-5


@torch.no_grad()
def test_velocities_are_those_of_the_readable_path(uncompiled):
    model = random_model()
    inputs = Inputs(model, 1, 6, 6)
    conditioning = inputs.conditionings(model)[0]
    expected = model(inputs.target, inputs.sigma, conditioning)
    fast = copy.deepcopy(model)
    accelerate(fast, Acceleration(fusion="none", attention="flex"))
    velocity = fast(inputs.target, inputs.sigma, conditioning)
    assert (velocity - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.slow
@torch.no_grad()
def test_compiled_it_reads_the_blocks_and_takes_any_selection():
    flex._attention.cache_clear()
    at = operands()
    other = dataclasses.replace(at, selected=(at.selected + 1) % 3)
    results = [BACKENDS["flex"](at)]
    with torch.compiler.set_stance("fail_on_recompile"):
        results.append(BACKENDS["flex"](other))
    for own, result in zip((at, other), results, strict=True):
        assert (result - gather(own)).abs().max() < 1e-5
    assert not torch.allclose(*results, atol=1e-2)
