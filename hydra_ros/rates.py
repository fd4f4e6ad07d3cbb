# SPDX-License-Identifier: Apache-2.0
"""Measures of pace: when the next frame is due, and how fast frames went out lately."""

from __future__ import annotations

from collections import deque


class Pacer:
    """Says when frames are due at a steady rate, without drift and without catching up.

    A frame that comes late, since the buffer ran dry, is due at once and starts a new beat.
    Times are seconds of a steady clock; a rate of 0 makes every frame due at once.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def due(self, now: float, rate: float) -> bool:
        """Return whether a frame may go out now; if so the next is one period later."""
        if rate <= 0.0:
            return True
        if now < self._next:
            return False
        period = 1.0 / rate
        self._next = self._next + period if now - self._next < period else now + period
        return True

    def wait(self, now: float) -> float:
        """Return the seconds until the next frame is due."""
        return max(self._next - now, 0.0)


class RateMeter:
    """Events per second over the last ``window`` seconds."""

    def __init__(self, window: float = 5.0) -> None:
        self._window = window
        self._times: deque[float] = deque()

    def clear(self) -> None:
        """Forget all events."""
        self._times.clear()

    def add(self, now: float) -> None:
        """Count an event."""
        self._times.append(now)
        self._drop_old(now)

    def rate(self, now: float) -> float:
        """Return the present rate in Hz, 0 with fewer than two events."""
        self._drop_old(now)
        if len(self._times) < 2:
            return 0.0
        # Up to now, where the next event is overdue: so a stall shows while it lasts.
        mean = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
        overdue = max(now - self._times[-1] - mean, 0.0)
        return (len(self._times) - 1) / (self._times[-1] - self._times[0] + overdue)

    def _drop_old(self, now: float) -> None:
        while self._times and self._times[0] < now - self._window:
            self._times.popleft()
