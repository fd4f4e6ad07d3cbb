# SPDX-License-Identifier: Apache-2.0
"""Attention written out for a CPU is the attention of PyTorch, and is taken where it is faster."""

import pytest
import torch

from hydra_model import attention, cpu_attention


def operands(dtype: torch.dtype) -> list[torch.Tensor]:
    """Queries, keys and values of 2 x 3 frames: 7 queries, 20 keys, 2 heads of 8 channels."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 3, 7, 16), (2, 3, 20, 16), (2, 3, 20, 16))
    return [3 * torch.randn(*size, generator=generator).to(dtype) for size in sizes]


@pytest.mark.parametrize("scores", [1, 80, 2 * 20 * 7 * 4, 1 << 21], ids=lambda n: f"{n} at once")
def test_products_give_what_pytorch_gives_however_few_scores_are_made_at_once(
    scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_attention, "_SCORES", scores)
    expected = attention.attend(*operands(torch.float32), 2)
    found = cpu_attention.attend_by_products(*operands(torch.float32), 2)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_they_are_off_by_its_rounding_of_scores() -> None:
    exact = attention.attend(*(t.float() for t in operands(torch.bfloat16)), 2)
    found = cpu_attention.attend_by_products(*operands(torch.bfloat16), 2)
    assert found.dtype == torch.bfloat16
    # Rounded once, a score of size 16 is off by up to 1/32, and so is what it weighs.
    assert 0 < (found.float() - exact).norm() < exact.norm() / 32


@pytest.mark.parametrize(
    ("multiplies", "tiles", "dtype", "by_products"),
    [
        (True, False, torch.bfloat16, True),
        (True, False, torch.float32, False),
        (True, True, torch.bfloat16, False),
        (False, False, torch.bfloat16, False),
    ],
)
def test_products_are_for_bfloat16_units_without_tiles(
    multiplies: bool, tiles: bool, dtype: torch.dtype, by_products: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: multiplies, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles, raising=False)
    asked = []
    monkeypatch.setattr(
        cpu_attention, "attend_by_products", lambda *given: asked.append(given) or given[0]
    )
    cpu_attention.products_are_faster.cache_clear()
    try:
        cpu_attention.attend(*operands(dtype), 2)
    finally:
        cpu_attention.products_are_faster.cache_clear()
    assert bool(asked) == by_products
