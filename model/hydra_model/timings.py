# SPDX-License-Identifier: Apache-2.0
"""How long the parts of a step take."""

from __future__ import annotations

import time

import torch


class Clock:
    """Seconds by part, waiting for the device at each reading."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start = self._now()
        self.parts: dict[str, float] = {}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def lap(self, part: str) -> None:
        now = self._now()
        self.parts[part] = now - self._start
        self._start = now

    def first(self, part: str) -> None:
        self.parts[part] = self._now() - self._start
