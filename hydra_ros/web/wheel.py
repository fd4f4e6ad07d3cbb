# SPDX-License-Identifier: Apache-2.0
"""Which of several browsers drives, and what is published for it: the first holds the wheel."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from hydra_ros.web.protocol import Velocity

# A browser that drives says so several times a second; one that fell silent has let go.
SILENCE = 0.6  # s
PERIOD = 1 / 15  # s between velocities published; in lockstep each is one frame


class Wheel:
    """Turns what browsers want into velocities to publish; times are of a steady clock.

    Args:
        publish: sends a velocity to the simulator.
    """

    def __init__(self, publish: Callable[[Velocity], None]) -> None:
        # Each velocity is one frame: none must be published that only says "stop".
        self.lockstep = False
        self._publish = publish
        self._driver: Hashable | None = None
        self._velocity = Velocity()
        self._heard = 0.0
        self._published = 0.0

    @property
    def driver(self) -> Hashable | None:
        """Who drives."""
        return self._driver

    def turn(self, driver: Hashable, velocity: Velocity, now: float) -> bool:
        """Drive like this, or let go with a velocity of zero; False if another one drives."""
        self._notice_silence(now)
        if self._driver not in (None, driver):
            return False
        if velocity.still:
            self.let_go(driver)
            return True
        begins = self._driver is None
        changed = velocity != self._velocity
        self._driver, self._velocity, self._heard = driver, velocity, now
        # At once, for a low latency; in lockstep only the first, since more would be more frames.
        if begins or (changed and not self.lockstep):
            self._send(now)
        return True

    def let_go(self, driver: Hashable) -> None:
        """Stop, if this one drives."""
        if self._driver == driver and driver is not None:
            self._driver, self._velocity = None, Velocity()
            if not self.lockstep:
                self._publish(self._velocity)

    def tick(self, now: float) -> None:
        """Repeat the velocity while somebody drives; to be called once a ``PERIOD``."""
        self._notice_silence(now)
        if self._driver is not None and now - self._published > PERIOD / 2:
            self._send(now)

    def _notice_silence(self, now: float) -> None:
        if self._driver is not None and now - self._heard > SILENCE:
            self.let_go(self._driver)

    def _send(self, now: float) -> None:
        self._published = now
        self._publish(self._velocity)
