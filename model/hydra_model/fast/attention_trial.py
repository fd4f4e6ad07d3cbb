# SPDX-License-Identifier: Apache-2.0
"""Which attention backend is fastest here, by trying each on the operands at hand."""

from __future__ import annotations

import logging
import statistics

import torch

from hydra_model.fast.attention import BACKENDS, Retrieval

logger = logging.getLogger(__name__)

TRIED = (
    "gather-flash", "gather-cudnn", "split-flash", "split-cudnn", "split-flash3", "flex", "triton",
    "triton-wide",
)  # fmt: skip
TRIED_IN_8_BITS = tuple(name for name in BACKENDS if name.startswith("fp8"))
TOLERANCE = 0.02  # relative, between backends in bfloat16; one that is off by more is broken
TOLERANCE_IN_8_BITS = 0.15  # rounding alone is 4 to 7 %, by how peaked the softmax is
REPEATS = 3


def fastest(at: Retrieval, tried: tuple[str, ...] = TRIED) -> tuple[str, dict[str, float]]:
    """Return the name of the fastest backend and the milliseconds of all that ran.

    A backend that this machine lacks, or that does not agree with the plain one, is left out.
    Without a GPU it is "gather".
    """
    if at.query.device.type != "cuda":
        return "gather", {}
    expected = BACKENDS["gather"](at).float()
    found: dict[str, float] = {}
    for name in tried:
        try:
            error = (BACKENDS[name](at).float() - expected).norm() / expected.norm()
            if not float(error) < (TOLERANCE_IN_8_BITS if name in TRIED_IN_8_BITS else TOLERANCE):
                logger.warning("attention backend %s is off by %.3g; left out", name, float(error))
                continue
            found[name] = milliseconds(name, at)
        except Exception as error:  # each library fails in its own way: not being there is usual
            logger.info("attention backend %s does not run here: %s", name, error)
    if not found:
        return "gather", found
    best = min(found, key=lambda name: found[name])
    logger.info("attention by %s: %s", best, {name: round(ms, 3) for name, ms in found.items()})
    return best, found


def milliseconds(name: str, at: Retrieval) -> float:
    """Return the median time of a backend on a GPU, after a warm-up."""
    times = []
    for _ in range(1 + REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        BACKENDS[name](at)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times[1:])
