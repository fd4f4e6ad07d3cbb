# SPDX-License-Identifier: Apache-2.0
"""All browsers at once: what the simulator says goes to each, what they want comes together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from typing import Any

from hydra_ros.web.bridge import Bridge
from hydra_ros.web.browser import Browser
from hydra_ros.web.calls import CallError, Calls
from hydra_ros.web.limits import SpeedLimits
from hydra_ros.web.protocol import Velocity, pack
from hydra_ros.web.simulator_link import SimulatorLink, Unavailable
from hydra_ros.web.views import figures_view
from hydra_ros.web.wheel import PERIOD, Wheel

HISTORY = 300  # s of figures that a new browser gets
STATES_PERIOD = 5.0  # s between looks at the named states: other clients save and delete too


class Hub:
    """Keeps the newest of everything and hands it to the browsers; lives on the loop."""

    def __init__(self, limits: SpeedLimits) -> None:
        self.browsers: set[Browser] = set()
        self.calls: Calls | None = None
        self._limits = limits
        self._bridge: Bridge | None = None
        self._link: SimulatorLink | None = None
        self._wheel = Wheel(self._publish)
        self._news: dict[str, str | bytes] = {}
        self._status: dict[str, Any] = {"alive": False, "available": {}, "parameters": {}}
        self._figures: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self._states: list[dict[str, Any]] = []

    def connect(self, bridge: Bridge, link: SimulatorLink) -> None:
        """Get to know the ROS side, before anything else is called."""
        self._bridge, self._link, self.calls = bridge, link, Calls(bridge, link)

    async def run(self) -> None:
        """Drive and look after the states until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            states = asyncio.create_task(self._watch_states())
            stack.callback(states.cancel)
            while True:
                self._wheel.tick(time.monotonic())
                await asyncio.sleep(PERIOD)

    # --- from ROS ---

    def deliver(self, kind: str, value: Any) -> None:
        """Take news of the bridge."""
        if kind in ("frame", "memory"):
            header, blobs = value
            if kind == "memory":
                header["thumbnails"] = len(blobs)
            self._broadcast(kind, pack({"type": kind, **header}, blobs))
        elif kind == "diagnostics":
            figures = figures_view(value["values"], time.time())
            self._figures.append(figures)
            self._status.update(value, figures=figures)
            self._send_status()
        elif kind == "link":
            self._wheel.lockstep = value["parameters"]["mode"] == "lockstep"
            if any(self._status.get(name) != new for name, new in value.items()):
                self._status.update(value)
                self._send_status()

    # --- from browsers ---

    def enter(self, browser: Browser) -> None:
        """Take a browser in and tell it all there is."""
        self.browsers.add(browser)
        hello = {
            "type": "hello",
            "limits": {"linear": self._limits.linear, "angular": self._limits.angular},
            "figures": list(self._figures),
        }
        browser.outbox.answer(json.dumps(hello))
        for kind, message in self._news.items():
            browser.outbox.put(kind, message)
        browser.wake()
        self._watch()
        self._send_status()

    def leave(self, browser: Browser) -> None:
        """Let a browser go; what it drove stops."""
        self.browsers.discard(browser)
        self._wheel.let_go(browser)
        self._watch()
        self._send_status()

    def drive(self, browser: Browser, velocity: Velocity) -> None:
        """Drive, within the limits, unless another browser does."""
        before = self._wheel.driver
        self._wheel.turn(browser, self._limits.limit(velocity), time.monotonic())
        if self._wheel.driver is not before:
            self._send_status()

    async def refresh_states(self) -> None:
        """Ask for the named states and tell the browsers where they changed."""
        try:
            states = await self.calls.states()
        except (CallError, Unavailable):
            states = []
        if states != self._states:
            self._states = states
            self._broadcast("states", json.dumps({"type": "states", "states": states}))

    async def _watch_states(self) -> None:
        while True:
            if self.browsers and self._status["available"].get("list_states"):
                await self.refresh_states()
            await asyncio.sleep(STATES_PERIOD)

    def _watch(self) -> None:
        wanted = bool(self.browsers)
        self._bridge.post(lambda: self._link.watch(wanted))

    def _publish(self, velocity: Velocity) -> None:
        self._bridge.post(lambda: self._link.drive(velocity))

    def _send_status(self) -> None:
        driver = self._wheel.driver
        for browser in self.browsers:
            who = None if driver is None else ("you" if driver is browser else "other")
            status = {
                "type": "status", **self._status, "driver": who, "browsers": len(self.browsers)
            }  # fmt: skip
            browser.outbox.put("status", json.dumps(status))
            browser.wake()

    def _broadcast(self, kind: str, message: str | bytes) -> None:
        self._news[kind] = message
        for browser in self.browsers:
            browser.outbox.put(kind, message)
            browser.wake()
