# SPDX-License-Identifier: Apache-2.0
"""``hydra_web`` in a process of its own, and a real browser for its page."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from system.simulator import wait_until

from hydra_ros.web.protocol import unpack

COMMAND = (sys.executable, "-m", "hydra_ros.web.main")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class WebProcess:
    """``hydra_web`` as a child process, on a free port, with its log."""

    def __init__(self, namespace: str = "", *options: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "--port", "0", "--namespace", namespace, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self.address or not self.alive, "address of hydra_web")
        assert self.alive, self.log

    @property
    def address(self) -> str:
        """The printed address, "" before there is one."""
        found = (re.fullmatch(r"hydra_web: (http://\S+)", line) for line in self.log)
        return next((match[1] for match in found if match), "")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def resident_megabytes(self) -> float:
        """Memory that the process holds."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1000

    def logged(self, words: str) -> list[str]:
        return [line for line in self.log if words in line]

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def interrupt(self) -> int:
        """Interrupt it, as Ctrl-C would, and return the exit code."""
        self._process.send_signal(signal.SIGINT)
        code = self._process.wait(20)
        self._reader.join(5)
        return code

    def end(self) -> None:
        """End it by any means."""
        if self.alive:
            self._process.kill()
        self._process.wait(10)

    def _read(self) -> None:
        for line in self._process.stdout:
            self.log.append(line.rstrip())


@contextmanager
def running_web(namespace: str = "", *options: str) -> Iterator[WebProcess]:
    """Start ``hydra_web`` and end it afterwards; its log is shown where a test fails."""
    web = WebProcess(namespace, *options)
    try:
        yield web
    except BaseException:
        print("\n".join(web.log))
        raise
    finally:
        web.end()


class Socket:
    """The page's WebSocket, spoken by hand."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.packs = 0  # received so far

    async def send(self, **message: Any) -> None:
        await self._socket.send_str(json.dumps(message))

    async def send_raw(self, data: str | bytes) -> None:
        await (self._socket.send_bytes if isinstance(data, bytes) else self._socket.send_str)(data)

    async def receive(self, kind: str, timeout: float = 20.0) -> dict[str, Any]:
        """Return the next message of this type; others are passed over."""

        async def search() -> dict[str, Any]:
            while True:
                message = await self._socket.receive()
                assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
                if message.type is aiohttp.WSMsgType.TEXT:
                    content = json.loads(message.data)
                else:
                    content, _ = unpack(message.data)
                    self.packs += 1
                if content["type"] == kind:
                    return content

        return await asyncio.wait_for(search(), timeout)

    async def closed(self, timeout: float = 20.0) -> tuple[int, str]:
        """Wait until the server closes it; return the code and the reason."""

        async def drain() -> tuple[int, str]:
            while True:
                message = await self._socket.receive()
                if message.type is aiohttp.WSMsgType.CLOSE:
                    return message.data, message.extra
                if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                    return self._socket.close_code or 0, ""

        return await asyncio.wait_for(drain(), timeout)


@contextmanager
def browser() -> Iterator[Any]:
    """Start the system's Chromium, headless; the test is skipped where there is none."""
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium was found (on Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        # Its sandbox does not run as root, which is what containers test as.
        # Nor has a container much shared memory.
        chromium = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield chromium
        finally:
            chromium.close()
