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
TURNS = 3  # between two pieces of work that are compared


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


class Timer:
    """Collects the times of one piece of work, over as many calls as there are."""

    def __init__(self, work: Callable[[], Any], device: torch.device) -> None:
        self._work, self._device = work, device
        self._on_gpu = device.type == "cuda"
        self._walls: list[float] = []
        self._processes: list[float] = []
        self._peak = 0.0

    def warm_up(self, times: int) -> None:
        for _ in range(times):
            self._work()
        if self._on_gpu:
            torch.cuda.synchronize(self._device)

    def run(self, times: int) -> None:
        """Time the work so many times more, each to its end on the device."""
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(self._device)
        for _ in range(times):
            wall, process = time.perf_counter(), time.process_time()
            self._work()
            if self._on_gpu:
                torch.cuda.synchronize(self._device)
            self._walls.append(time.perf_counter() - wall)
            self._processes.append(time.process_time() - process)
        if self._on_gpu:
            self._peak = max(self._peak, torch.cuda.max_memory_allocated(self._device) / GIB)

    @property
    def result(self) -> Measurement:
        return Measurement(
            seconds=statistics.median(self._walls),
            process_seconds=statistics.median(self._processes),
            peak_gib=self._peak,
            repeats=len(self._walls),
        )


def measure(
    work: Callable[[], Any], device: torch.device, *, repeats: int = 3, warm_up: int = 1
) -> Measurement:
    """Run ``work`` ``warm_up`` times, then time it ``repeats`` times."""
    timer = Timer(work, device)
    timer.warm_up(warm_up)
    timer.run(repeats)
    return timer.result


def measure_in_turn(
    first: Callable[[], Any], second: Callable[[], Any], device: torch.device, *,
    repeats: int = 3, warm_up: int = 1,
) -> tuple[Measurement, Measurement]:  # fmt: skip
    """Time two pieces of work ``repeats`` times each, in up to ``TURNS`` turns.

    A GPU slows down as it grows warm, and a machine that others use has good and bad minutes: what
    is compared has to meet the same.
    """
    timers = Timer(first, device), Timer(second, device)
    for timer in timers:
        timer.warm_up(warm_up)
    turns = min(TURNS, repeats)
    for turn in range(turns):
        for timer in timers:
            timer.run(repeats * (turn + 1) // turns - repeats * turn // turns)
    return timers[0].result, timers[1].result


@torch.inference_mode()
def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of a large square matrix product of random numbers."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device, dtype=torch.float32).to(dtype)
    found = measure(lambda: a @ b, device, repeats=10, warm_up=3)
    return 2 * size**3 / found.seconds / 1e12
