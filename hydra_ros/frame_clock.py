# SPDX-License-Identifier: Apache-2.0
"""The stamp of every frame, in ROS time."""

from __future__ import annotations

from hydra_ros.conversions import NANOSECONDS


class FrameClock:
    """Turns simulated time into stamps that never run backwards.

    Args:
        simulated: stamps are simulated time (lockstep, or a clock that is published); False
            stamps each frame with the node's clock as it is published (realtime).
        from_zero: simulated time counts from zero, since this node is the source of time;
            False counts it from the node's clock at the start of the first world.
    """

    def __init__(self, *, simulated: bool, from_zero: bool) -> None:
        self._simulated = simulated
        self._from_zero = from_zero
        self._anchor = 0  # the stamp of simulated time 0, nanoseconds
        self._last = 0

    def start_world(self, now: int, time: float = 0.0) -> None:
        """Begin a world that is at simulated ``time`` in seconds; ``now`` in nanoseconds.

        A world that replaces another goes on where that one's stamps ended: listeners take
        time that jumps back for a new start and forget what they know. The first one, where
        it goes on from a saved state, has that state's time.
        """
        time_ns = round(time * NANOSECONDS)
        if self._from_zero:
            self._anchor = max(self._last - time_ns, 0)
        else:
            self._anchor = max(now, self._last) - time_ns

    def expected(self, simulated_time: float, now: int) -> int:
        """Return the stamp that a frame at ``simulated_time`` will have; unless simulated, now."""
        if not self._simulated:
            return now
        return max(self._anchor + round(simulated_time * NANOSECONDS), self._last)

    def now(self, now: int) -> int:
        """Return the time on this clock: of the last frame where it is the source of time."""
        return self._last if self._from_zero else now

    def stamp(self, simulated_time: float, now: int) -> int:
        """Return the stamp in nanoseconds of a frame at ``simulated_time`` seconds."""
        stamp = now
        if self._simulated:
            stamp = self._anchor + round(simulated_time * NANOSECONDS)
        self._last = max(stamp, self._last)
        return self._last
