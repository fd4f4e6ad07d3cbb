# SPDX-License-Identifier: Apache-2.0
"""Timing of one piece of work: warm-up, waiting for the device, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Medians of one piece of work.

    ``seconds`` of wall time, ``process_seconds`` of processor time of all threads (on a shared
    machine the fairer one), ``peak_gib`` of GPU memory, 0 on a CPU, over everything held.
    """

    seconds: float
    process_seconds: float
    peak_gib: float
    repeats: int


def measure(
    work: Callable[[], Any], device: torch.device, *, repeats: int = 3, warm_up: int = 1
) -> Measurement:
    """Run ``work`` ``warm_up`` times, then time it ``repeats`` times."""
    on_gpu = device.type == "cuda"
    for _ in range(warm_up):
        work()
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    walls, processes = [], []
    for _ in range(repeats):
        wall, process = time.perf_counter(), time.process_time()
        work()
        if on_gpu:
            torch.cuda.synchronize(device)
        walls.append(time.perf_counter() - wall)
        processes.append(time.process_time() - process)
    peak = torch.cuda.max_memory_allocated(device) / GIB if on_gpu else 0.0
    return Measurement(
        seconds=statistics.median(walls),
        process_seconds=statistics.median(processes),
        peak_gib=peak,
        repeats=repeats,
    )


@torch.inference_mode()
def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of a large square matrix product of random numbers."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device, dtype=torch.float32).to(dtype)
    found = measure(lambda: a @ b, device, repeats=10, warm_up=3)
    return 2 * size**3 / found.seconds / 1e12
