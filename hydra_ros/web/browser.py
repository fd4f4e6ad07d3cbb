# SPDX-License-Identifier: Apache-2.0
"""One browser on its WebSocket: reads what it sends, sends what it can take, ends what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode, WSMsgType, web

from hydra_ros.web import protocol
from hydra_ros.web.calls import CallError
from hydra_ros.web.limits import RateLimit
from hydra_ros.web.outbox import Outbox
from hydra_ros.web.simulator_link import Unavailable

if TYPE_CHECKING:
    from hydra_ros.web.hub import Hub

MESSAGES_PER_SECOND = 120
MESSAGES_AT_ONCE = 240
CALLS_AT_ONCE = 4
CLOSING = 2.0  # s that a browser gets to take leave

# Codes of our own, from the range for applications.
STALLED = 4000


class Closed(Exception):
    """This browser is to be closed, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Browser:
    """A connection, from the handshake to its end.

    Args:
        socket: the WebSocket, prepared.
        hub: what it takes part in.
        stall: seconds for which it may take and confirm nothing before it is closed.
    """

    def __init__(self, socket: web.WebSocketResponse, hub: Hub, stall: float) -> None:
        self.outbox = Outbox()
        self._socket = socket
        self._hub = hub
        self._stall = stall
        self._something = asyncio.Event()
        self._rate = RateLimit(MESSAGES_PER_SECOND, MESSAGES_AT_ONCE)
        self._calls: dict[int, asyncio.Task] = {}
        self._imagining: dict[int, asyncio.Task] = {}  # those of the calls that imagine
        self._end = asyncio.Event()

    def wake(self) -> None:
        """Look into the outbox again."""
        self._something.set()

    def end(self) -> None:
        """Say goodbye: the server ends."""
        self._end.set()

    async def run(self) -> Closed | None:
        """Serve the browser until it leaves; return why it was closed, None if it left."""
        tasks = [
            asyncio.create_task(work())
            for work in (self._receive, self._send, self._watch_for_stall, self._wait_for_end)
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = [task.exception() for task in tasks if task.done()]
        finally:
            for task in (*tasks, *self._calls.values()):
                task.cancel()
            await asyncio.gather(*tasks, *self._calls.values(), return_exceptions=True)
        for error in ended:
            if error and not isinstance(error, Closed | ConnectionError):
                raise error
        return next((error for error in ended if isinstance(error, Closed)), None)

    async def _receive(self) -> None:
        async for message in self._socket:
            if not self._rate.passes(time.monotonic()):
                raise Closed(
                    WSCloseCode.POLICY_VIOLATION,
                    f"more than {MESSAGES_PER_SECOND} messages a second",
                )
            if message.type is WSMsgType.ERROR:
                raise _bad_traffic(message.data)
            if message.type is not WSMsgType.TEXT:
                raise Closed(WSCloseCode.UNSUPPORTED_DATA, "not a text message")
            try:
                self._take(protocol.parse(message.data))
            except protocol.ProtocolError as error:
                raise Closed(WSCloseCode.INVALID_TEXT, str(error)) from None

    def _take(self, message: protocol.Message) -> None:
        match message:
            case protocol.Acknowledge(sequence=sequence):
                if not self.outbox.confirm(sequence):
                    raise protocol.ProtocolError(f"sequence {sequence} was not sent")
                self.wake()
            case protocol.Drive(velocity=velocity):
                self._hub.drive(self, velocity)
            case protocol.Call(id=number, request=protocol.Cancel(imagining=given_up)):
                self._cancel(number, given_up)
            case protocol.Call(id=number, request=request):
                self._call(number, request)

    def _call(self, number: int, request: protocol.Request) -> None:
        if number in self._calls:
            raise protocol.ProtocolError(f"call {number} is not answered yet")
        if len(self._calls) >= CALLS_AT_ONCE:
            raise protocol.ProtocolError(f"more than {CALLS_AT_ONCE} calls at once")
        task = asyncio.create_task(self._perform(number, request))
        self._calls[number] = task
        task.add_done_callback(lambda _: self._done(number, task))
        if isinstance(request, protocol.Imagine):
            self._imagining[number] = task

    def _cancel(self, number: int, given_up: int) -> None:
        task = self._imagining.get(given_up)
        if task is None:  # it may just have been answered
            self._answer(number, {"ok": False, "message": f"call {given_up} imagines nothing"})
            return
        task.cancel()
        self._answer(number, {"ok": True})

    def _done(self, number: int, task: asyncio.Task) -> None:
        del self._calls[number]
        self._imagining.pop(number, None)
        self.outbox.withdraw(f"progress {number}")
        if task.cancelled():  # here, since a task may be cancelled before it has begun
            self._answer(number, {"ok": False, "message": "cancelled"})

    async def _perform(self, number: int, request: protocol.Request) -> None:
        def progress(fields: dict[str, Any]) -> None:
            if number in self._calls:  # not given up meanwhile
                # A kind of its own: two that imagine must not replace each other's.
                news = json.dumps({"type": "progress", "id": number, **fields})
                self.outbox.put(f"progress {number}", news)
                self.wake()

        try:
            fields, blobs = await self._hub.calls.perform(request, progress)
        except (CallError, Unavailable) as error:
            self._answer(number, {"ok": False, "message": str(error)})
        else:
            self._imagining.pop(number, None)  # too late to cancel
            self._answer(number, {"ok": True, **fields}, blobs)
            await self._hub.refresh_states()

    def _answer(
        self, number: int, fields: dict[str, Any], blobs: list[bytes] | None = None
    ) -> None:
        header = {"type": "answer", "id": number, **fields}
        self.outbox.answer(pack_or_text(header, blobs))
        self.wake()

    async def _send(self) -> None:
        while True:
            message = self.outbox.take(time.monotonic())
            if message is None:
                await self._something.wait()
                self._something.clear()
                continue
            # Waits while the network's buffer is full.
            if isinstance(message, bytes):
                await self._socket.send_bytes(message)
            else:
                await self._socket.send_str(message)
            self.outbox.sent()

    async def _wait_for_end(self) -> None:
        await self._end.wait()
        raise Closed(WSCloseCode.GOING_AWAY, "the server ends")

    async def _watch_for_stall(self) -> None:
        while True:
            stalled = self.outbox.stalled_for(time.monotonic())
            if stalled >= self._stall:
                raise Closed(STALLED, f"it took nothing for {self._stall:g} s")
            await asyncio.sleep(max(min(self._stall - stalled, 1.0), 0.05))


def _bad_traffic(error: Exception) -> Closed | ConnectionError:
    code = getattr(error, "code", None)
    if code is None:
        return ConnectionError(str(error))
    if code == WSCloseCode.MESSAGE_TOO_BIG:
        return Closed(code, f"a message of more than {protocol.MAX_MESSAGE} bytes")
    return Closed(code, "not the WebSocket protocol")


def pack_or_text(header: dict[str, Any], blobs: list[bytes] | None) -> str | bytes:
    """Return a message as text, or packed where it has blobs."""
    return protocol.pack(header, blobs) if blobs else json.dumps(header)


async def take_leave(
    socket: web.WebSocketResponse, transport: asyncio.Transport | None, closed: Closed | None
) -> None:
    """Close a socket for good, also one whose other side does not listen."""
    code = closed.code if closed else WSCloseCode.OK
    reason = str(closed).encode()[:120] if closed else b""
    with contextlib.suppress(asyncio.TimeoutError, ConnectionError):
        await asyncio.wait_for(socket.close(code=code, message=reason), CLOSING)
    if closed and transport:
        # An ordinary close would wait until the other side takes what lies in the buffer.
        transport.abort()
