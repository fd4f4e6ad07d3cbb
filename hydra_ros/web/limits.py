# SPDX-License-Identifier: Apache-2.0
"""How fast browsers may send, and how fast they may drive."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hydra_ros.web.protocol import Velocity


class RateLimit:
    """Lets ``rate`` events a second pass, and ``burst`` of them at once.

    Times are seconds of a steady clock.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._last = -math.inf

    def passes(self, now: float) -> bool:
        """Return whether one more event may pass now, and count it if so."""
        self._left = min(self._left + (now - self._last) * self._rate, self._burst)
        self._last = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


@dataclass(frozen=True, kw_only=True)
class SpeedLimits:
    """The highest speeds: ``linear`` m/s and ``angular`` rad/s."""

    linear: float
    angular: float

    def limit(self, velocity: Velocity) -> Velocity:
        """Return the velocity, slower in the same direction where it is too fast."""
        return Velocity(
            linear=_shortened(velocity.linear, self.linear),
            angular=_shortened(velocity.angular, self.angular),
        )


def _shortened(vector: tuple[float, float, float], longest: float) -> tuple[float, float, float]:
    length = math.hypot(*vector)
    if length <= longest:
        return vector
    x, y, z = (entry * longest / length for entry in vector)
    return x, y, z
