# SPDX-License-Identifier: Apache-2.0
"""What waits to be sent to one browser: never more than the newest of each kind."""

from __future__ import annotations

from collections import deque

# Packs on their way that the browser has not shown yet. Two, so that the next one travels while
# one is drawn.
WINDOW = 2


class Outbox:
    """The newest message of each kind, and answers, for a browser that confirms what it showed.

    News (frames, memory, status) replace each other, so that a slow browser gets fewer of them
    and always the newest. Answers are kept in order; their number is bounded by the calls that
    a browser may have open. Packs (bytes) wait for acknowledgements, so that pictures do not
    queue up in the network either; texts are small and do not.

    Times are seconds of a steady clock.
    """

    def __init__(self) -> None:
        self._answers: deque[str | bytes] = deque()
        self._news: dict[str, str | bytes] = {}
        self._unconfirmed: deque[float] = deque()  # when each was sent
        self._confirmed = 0
        self._sending_since: float | None = None

    def put(self, kind: str, message: str | bytes) -> None:
        """Send news; they replace news of that kind that were not sent yet."""
        self._news.pop(kind, None)
        self._news[kind] = message

    def withdraw(self, kind: str) -> None:
        """Forget news of that kind that were not sent yet."""
        self._news.pop(kind, None)

    def answer(self, message: str | bytes) -> None:
        """Send an answer; it is never dropped."""
        self._answers.append(message)

    def take(self, now: float) -> str | bytes | None:
        """Return what is to be sent next, None for nothing yet; call ``sent`` afterwards."""
        blocked = len(self._unconfirmed) >= WINDOW
        if self._answers and not (blocked and isinstance(self._answers[0], bytes)):
            return self._start(self._answers.popleft(), now)
        for kind, message in self._news.items():
            if not (blocked and isinstance(message, bytes)):
                del self._news[kind]
                return self._start(message, now)
        return None

    def sent(self) -> None:
        """Note that the network has taken what ``take`` returned."""
        self._sending_since = None

    def confirm(self, sequence: int) -> bool:
        """Note that the browser showed ``sequence`` packs so far; False if that cannot be."""
        count = sequence - self._confirmed
        if not 0 <= count <= len(self._unconfirmed):
            return False
        for _ in range(count):
            self._unconfirmed.popleft()
        self._confirmed = sequence
        return True

    def stalled_for(self, now: float) -> float:
        """Return for how many seconds the browser has neither taken nor confirmed anything."""
        waiting = [self._sending_since, *list(self._unconfirmed)[:1]]
        return max((now - since for since in waiting if since is not None), default=0.0)

    @property
    def waiting_bytes(self) -> int:
        """Size of all that waits."""
        return sum(map(len, (*self._answers, *self._news.values())))

    def _start(self, message: str | bytes, now: float) -> str | bytes:
        self._sending_since = now
        if isinstance(message, bytes):
            self._unconfirmed.append(now)
        return message
