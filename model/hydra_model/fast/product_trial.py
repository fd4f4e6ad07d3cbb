# SPDX-License-Identifier: Apache-2.0
"""Which products are faster in 8 bits here, rounding included, by trying each."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from hydra_model.config import TransformerConfig
from hydra_model.fast.passes import Passes
from hydra_model.fast.products import Fp8Product

logger = logging.getLogger(__name__)

ROWS = 32768  # half the tokens of the released size: enough to fill a GPU
REPEATS = 5


@torch.inference_mode()
def worthwhile(
    wanted: tuple[str, ...],
    config: TransformerConfig,
    passes: Passes,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[str, ...]:
    """Return those of ``wanted`` (of ``FP8_PARTS``) that pay; "up" and "down" are one choice.

    What is no product stays. Nothing is tried without a GPU, or where a trial fails.
    """
    if device.type != "cuda":
        return wanted
    kept = list(wanted)
    for group in (("qkv",), ("output",), ("text",), ("up", "down")):
        if not set(group) <= set(wanted) or (group == ("text",) and not config.text_dim):
            continue
        try:
            plain, narrow = (
                milliseconds(run) for run in _runs(group[0], config, passes, device, dtype)
            )
        except Exception as error:  # as libraries fail
            logger.info("products %s were not tried: %s", group, error)
            continue
        logger.info("%s: %.3f ms, in 8 bits %.3f ms", " and ".join(group), plain, narrow)
        if narrow >= plain:
            kept = [name for name in kept if name not in group]
    return tuple(kept)


def _runs(
    name: str, config: TransformerConfig, passes: Passes, device: torch.device, dtype: torch.dtype
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return a product (for "up" the whole feed-forward) in ``dtype`` and in 8 bits."""
    width = config.dim
    x = torch.randn(ROWS, width, device=device, dtype=dtype)

    def layer(outer: int, inner: int) -> tuple[torch.Tensor, torch.Tensor, Fp8Product]:
        weight = torch.randn(outer, inner, device=device, dtype=dtype) / inner**0.5
        bias = torch.zeros(outer, device=device, dtype=dtype)
        return weight, bias, Fp8Product(weight, bias)

    rows = passes.quantise(x)
    if name == "up":
        up, up_bias, narrow_up = layer(config.ffn_dim, width)
        down, down_bias, narrow_down = layer(width, config.ffn_dim)

        def plain() -> torch.Tensor:
            hidden = torch._addmm_activation(up_bias, x, up.T, use_gelu=True)
            return F.linear(hidden, down, down_bias)

        # The norm before it writes 8 bits as fast as it writes 16.
        return plain, lambda: narrow_down(passes.gelu_quantised(narrow_up(rows)))
    weight, bias, product = layer(3 * width if name == "qkv" else width, width)
    if name == "qkv":
        return lambda: F.linear(x, weight, bias), lambda: product(rows)
    return lambda: F.linear(x, weight, bias), lambda: product(passes.quantise(x))


def milliseconds(run: Callable[[], Any]) -> float:
    """Return the median time on a GPU, after a warm-up."""
    times = []
    for _ in range(2 + REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[2:])
