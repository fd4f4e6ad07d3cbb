# SPDX-License-Identifier: Apache-2.0
"""Hands batches to workers, and those of a lost worker to another.

Each worker has a thread here, which starts it, gives it one batch after another and replaces it
when it is lost. How a worker is reached is somebody else's: ``hire`` returns a ``Hand``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from hydra_model.workers.batches import Batch, BatchDone, ChunkNews
from hydra_model.workers.packed_states import PackedState
from hydra_model.world import Cancelled

logger = logging.getLogger(__name__)

# Workers that a batch may cost: then it is more likely the batch.
ATTEMPTS = 3


class WorkerLost(Exception):
    """A worker does not answer any more; the message says why."""


class NoWorkers(RuntimeError):
    """Nobody is there who could compute, and nobody can be started."""


class Hand(Protocol):
    """A worker as seen from here; every call raises ``WorkerLost`` when it is gone."""

    def begin(self) -> None:
        """Wait until it is ready; may take long, and may raise anything."""

    def missing(self, state: PackedState) -> list[str]:
        """See ``worker.Worker``; so are the next three."""

    def accept(self, state: PackedState, contents: Mapping[str, bytes]) -> None: ...

    def imagine(self, batch: Batch) -> Iterator[list[ChunkNews] | BatchDone]: ...

    def cancel(self, number: int) -> None:
        """Does not wait."""

    def dismiss(self) -> None:
        """End it, whatever it does; a call that waits for it raises. Never fails."""


class Order(Protocol):
    """Batches that belong together."""

    priority: int

    @property
    def finished(self) -> bool:
        """Whether it is over."""

    def contents(self, wanted: list[str]) -> dict[str, bytes]:
        """Return contents of the state that all batches start from, by hash."""

    def started(self) -> None:
        """A worker begins with a batch of it."""

    def take(self, piece: Piece, news: list[ChunkNews] | BatchDone) -> None:
        """Take what a worker tells."""

    def finish(self, error: BaseException | None = None) -> None:
        """End it; nothing is taken any more."""


@dataclass(eq=False)
class Piece:
    """One batch of an order."""

    order: Order
    make: Callable[[int], Batch]  # with a number
    attempts: int = 0


@dataclass(eq=False)
class _Slot:
    """The place of one worker."""

    number: int
    hand: Hand | None = None
    starting: Hand | None = None  # not ready yet
    given_up: str = ""  # why nobody could be hired; tried again with the next order
    piece: Piece | None = None
    batch: int = -1


class Crew:
    """Workers and what they have to do; safe to use from any thread.

    Args:
        hire: returns the hand of a new worker, given its number; may raise.
        count: how many workers.
    """

    def __init__(self, hire: Callable[[int], Hand], count: int) -> None:
        if count < 1:
            raise ValueError(f"{count} workers; accepted: 1 or more")
        self._hire = hire
        self._changed = threading.Condition()
        self._waiting: list[Piece] = []
        self._closed = False
        self._numbers = 0
        self._slots = [_Slot(number) for number in range(count)]
        self._threads = [
            threading.Thread(
                target=self._serve, args=[slot], name=f"worker-{slot.number}", daemon=True
            )
            for slot in self._slots
        ]
        for thread in self._threads:
            thread.start()

    @property
    def present(self) -> int:
        """Workers that are there."""
        return len(self.hands)

    @property
    def hands(self) -> list[Hand]:
        """The workers that are there."""
        return [slot.hand for slot in self._slots if slot.hand]

    def wait(self, count: int = 1, timeout: float | None = None) -> bool:
        """Wait until so many workers are there, or until it is known that they will not be."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed
                or self.present >= count
                or all(slot.hand or slot.given_up for slot in self._slots),
                timeout,
            )
            return self.present >= count

    def submit(self, pieces: list[Piece]) -> None:
        """Have an order's pieces computed; of equal priority, each order is served in turn."""
        with self._changed:
            if self._closed:
                raise NoWorkers("the workers were stopped")
            for slot in self._slots:
                slot.given_up = ""
            self._waiting.extend(pieces)
            self._changed.notify_all()

    def withdraw(self, order: Order, error: BaseException) -> None:
        """End an order; what runs of it stops before its next slice of work."""
        with self._changed:
            self._waiting = [piece for piece in self._waiting if piece.order is not order]
            busy = [slot for slot in self._slots if slot.piece and slot.piece.order is order]
            for slot in busy:
                if slot.hand:
                    slot.hand.cancel(slot.batch)
        order.finish(error)

    def close(self) -> None:
        """Dismiss all workers and end all orders."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            running = [slot.piece for slot in self._slots if slot.piece]
            hands = [hand for s in self._slots for hand in (s.hand, s.starting) if hand]
            self._changed.notify_all()
        for order in {piece.order for piece in [*waiting, *running]}:
            order.finish(NoWorkers("the workers were stopped"))
        for hand in hands:
            hand.dismiss()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- On the threads of the workers ---

    def _serve(self, slot: _Slot) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._has_to_do(slot))
                if self._closed:
                    break
                if slot.hand:
                    slot.piece = self._next_piece()
                    slot.batch = self._numbers = self._numbers + 1
            if slot.piece and slot.hand:
                self._compute(slot, slot.piece, slot.hand)
            else:
                self._fill(slot)
        if slot.hand:
            slot.hand.dismiss()

    def _has_to_do(self, slot: _Slot) -> bool:
        return bool(self._waiting) if slot.hand else not slot.given_up

    def _next_piece(self) -> Piece:
        running = [slot.piece.order for slot in self._slots if slot.piece]
        # Of the highest priority, then of the order that has the fewest workers now.
        piece = min(self._waiting, key=lambda p: (-p.order.priority, running.count(p.order)))
        self._waiting.remove(piece)
        return piece

    def _fill(self, slot: _Slot) -> None:
        try:
            hand = self._hire(slot.number)
            with self._changed:
                slot.starting = hand
            if not self._closed:
                hand.begin()
        except Exception as error:
            if slot.starting:
                slot.starting.dismiss()
            self._give_up(slot, str(error) or repr(error))
            return
        with self._changed:
            slot.hand, slot.starting = hand, None  # dismissed by _serve if closed meanwhile
            self._changed.notify_all()

    def _give_up(self, slot: _Slot, reason: str) -> None:
        with self._changed:
            told = {other.given_up for other in self._slots}
            slot.given_up, slot.starting = reason, None
            hopeless = all(other.given_up for other in self._slots)
            stranded = {piece.order for piece in self._waiting} if hopeless else set()
            closed = self._closed
            self._changed.notify_all()
        if reason not in told and not closed:
            logger.warning("worker %d cannot be started: %s", slot.number, reason)
        for order in stranded:
            self.withdraw(order, NoWorkers(f"no worker is left, and none can be started: {reason}"))

    def _compute(self, slot: _Slot, piece: Piece, hand: Hand) -> None:
        order = piece.order
        lost: WorkerLost | None = None
        try:
            order.started()
            batch = piece.make(slot.batch)
            missing = hand.missing(batch.state)
            if missing:
                hand.accept(batch.state, order.contents(missing))
            for news in hand.imagine(batch):
                order.take(piece, news)
        except WorkerLost as error:
            lost = error
        except Cancelled:
            pass  # the order was withdrawn
        except Exception as error:  # whatever the model raised: it would elsewhere, too
            self.withdraw(order, error)
        finally:
            with self._changed:
                slot.piece = None
        if lost:
            self._replace(slot, piece, hand, lost)

    def _replace(self, slot: _Slot, piece: Piece, hand: Hand, lost: WorkerLost) -> None:
        hand.dismiss()
        piece.attempts += 1
        with self._changed:
            slot.hand = None
            closed, over = self._closed, piece.order.finished
            again = not closed and not over and piece.attempts < ATTEMPTS
            if again:
                self._waiting.insert(0, piece)
            self._changed.notify_all()
        if closed:
            return
        done = "; its candidates are imagined again elsewhere" if again else ""
        logger.warning("worker %d was lost (%s)%s", slot.number, lost, done)
        if not again and not over:
            error = NoWorkers(f"a batch of candidates cost {ATTEMPTS} workers; the last: {lost}")
            self.withdraw(piece.order, error)
