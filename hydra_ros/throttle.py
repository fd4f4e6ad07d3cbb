# SPDX-License-Identifier: Apache-2.0
"""Log messages that may come a thousand times a second, said once in a while."""

from __future__ import annotations


class Throttle:
    """Lets one message of a kind pass per ``period`` seconds and counts the others."""

    def __init__(self, period: float = 5.0) -> None:
        self._period = period
        self._last: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def passes(self, kind: str, now: float) -> int | None:
        """Return how many of this kind were held back before it, None to hold it back too."""
        if kind in self._last and now - self._last[kind] < self._period:
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        self._last[kind] = now
        return self._held_back.pop(kind, 0)
