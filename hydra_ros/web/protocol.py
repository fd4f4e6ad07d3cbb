# SPDX-License-Identifier: Apache-2.0
"""What goes over the WebSocket: checked messages from a browser, packed messages to it.

A browser sends small JSON texts; everything in them is checked here. To the browser go JSON
texts, and binary packs: a big-endian uint32 with the length of a JSON header, the header, and
the blobs (JPEGs) whose sizes the header lists.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE = 16 * 1024  # bytes of one message from a browser
MAX_NAME = 64
MAX_TEXT = 500
MAX_SEED = 2**53 - 1  # JavaScript's largest exact integer
MAX_SPEED = 1000.0  # m/s and rad/s; what is driven is limited further by the server
MAX_PATHS = 4
MAX_SECONDS = 20.0


class ProtocolError(ValueError):
    """A message from a browser that is not one; the text says what is accepted."""


@dataclass(frozen=True, kw_only=True)
class Velocity:
    """A velocity in the axes of the camera body: m/s and rad/s, x forward, y left, z up."""

    linear: tuple[float, float, float] = (0.0, 0.0, 0.0)
    angular: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def still(self) -> bool:
        """Whether nothing moves."""
        return not any((*self.linear, *self.angular))


@dataclass(frozen=True, kw_only=True)
class Acknowledge:
    """The browser has shown the pack of this number, and all before it."""

    sequence: int


@dataclass(frozen=True, kw_only=True)
class Drive:
    """Move like this until told otherwise; a velocity of zero lets go of the wheel."""

    velocity: Velocity


@dataclass(frozen=True, kw_only=True)
class Reset:
    """Start a world."""

    source: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class SaveState:
    """Keep the live world under a name."""

    name: str
    overwrite: bool
    persistent: bool


@dataclass(frozen=True, kw_only=True)
class LoadState:
    """Make a named state the live world."""

    name: str


@dataclass(frozen=True, kw_only=True)
class DeleteState:
    """Forget a named state."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Imagine:
    """Imagine futures: each moves with one velocity for so many seconds, from the live world."""

    velocities: tuple[Velocity, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Make an imagined future the live world."""

    future: str


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Give up what is being imagined for this browser's call of that number."""

    imagining: int


@dataclass(frozen=True, kw_only=True)
class ShowThumbnails:
    """Let the simulator put pictures into what it says of its memory."""


Request = Reset | SaveState | LoadState | DeleteState | Imagine | Commit | Cancel | ShowThumbnails


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that is answered under the browser's own number for it."""

    id: int
    request: Request


Message = Acknowledge | Drive | Call


def parse(text: str) -> Message:
    """Return the message of a text that a browser sent.

    Raises:
        ProtocolError: not JSON, an unknown type, or a field that is missing, wrong or too much.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("not JSON") from None
    if not isinstance(content, dict):
        raise ProtocolError("not a JSON object")
    fields = Fields(content, "message")
    kind = fields.text("type", MAX_NAME)
    if kind not in _PARSERS:
        raise ProtocolError(f"unknown type {kind!r}; known: {', '.join(_PARSERS)}")
    return fields.complete(_PARSERS[kind])


def pack(header: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """Return a binary message: ``header`` with the blobs' sizes, and the blobs."""
    text = json.dumps({**header, "sizes": [len(blob) for blob in blobs]}, allow_nan=False)
    encoded = text.encode()
    return b"".join((struct.pack(">I", len(encoded)), encoded, *blobs))


def unpack(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return the header and the blobs of a binary message."""
    (length,) = struct.unpack_from(">I", data)
    header = json.loads(data[4 : 4 + length])
    blobs, start = [], 4 + length
    for size in header["sizes"]:
        blobs.append(data[start : start + size])
        start += size
    return header, blobs


class Fields:
    """Takes the fields out of a JSON object one by one, each with its type and range."""

    def __init__(self, content: dict[str, Any], name: str) -> None:
        self._left = dict(content)
        self._name = name

    def complete(self, read: Callable[[Fields], Any]) -> Any:
        """Return what ``read`` makes of the fields; none may be left over."""
        result = read(self)
        if self._left:
            name = sorted(self._left)[0]
            raise ProtocolError(f"{self._name} has an unknown field {name[:MAX_NAME]!r}")
        return result

    def text(self, name: str, longest: int) -> str:
        value = self._take(name, str, f"a text of at most {longest} characters")
        if len(value) > longest:
            raise ProtocolError(f"{name} has {len(value)} characters; accepted: {longest}")
        # ROS's strings end at a NUL; half of a surrogate pair is no character.
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ProtocolError(f"{name} holds what is no character")
        return value

    def flag(self, name: str) -> bool:
        return self._take(name, bool, "true or false")

    def integer(self, name: str, largest: int) -> int:
        accepted = f"a whole number from 0 to {largest}"
        value = self._take(name, int, accepted)
        if isinstance(value, bool) or not 0 <= value <= largest:
            raise ProtocolError(f"{name} is not {accepted}")
        return value

    def number(self, name: str, least: float, largest: float) -> float:
        return _number(self._take(name, object, "a number"), name, least, largest)

    def vector(self, name: str, limit: float) -> tuple[float, float, float]:
        value = self._take(name, list, "three numbers")
        if len(value) != 3:
            raise ProtocolError(f"{name} is not three numbers")
        x, y, z = (_number(entry, name, -limit, limit) for entry in value)
        return x, y, z

    def objects(self, name: str, most: int, read: Callable[[Fields], Any]) -> tuple[Any, ...]:
        accepted = f"1 to {most} objects"
        value = self._take(name, list, accepted)
        if not 1 <= len(value) <= most or not all(isinstance(entry, dict) for entry in value):
            raise ProtocolError(f"{name} is not {accepted}")
        return tuple(Fields(entry, name).complete(read) for entry in value)

    def _take(self, name: str, kind: type, accepted: str) -> Any:
        if name not in self._left:
            raise ProtocolError(f"{self._name} has no {name}")
        value = self._left.pop(name)
        if not isinstance(value, kind):
            raise ProtocolError(f"{name} is not {accepted}")
        return value


def _number(value: object, name: str, least: float, largest: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value <= largest:  # NaN is not either
        raise ProtocolError(f"{name} is not a number from {least:g} to {largest:g}")
    return float(value)


def _velocity(fields: Fields) -> Velocity:
    return Velocity(
        linear=fields.vector("linear", MAX_SPEED), angular=fields.vector("angular", MAX_SPEED)
    )


def _name(fields: Fields) -> str:
    return fields.text("name", MAX_NAME)


_REQUESTS: dict[str, Callable[[Fields], Request]] = {
    "reset": lambda fields: Reset(
        source=fields.text("source", MAX_TEXT), seed=fields.integer("seed", MAX_SEED)
    ),
    "save_state": lambda fields: SaveState(
        name=_name(fields), overwrite=fields.flag("overwrite"), persistent=fields.flag("persistent")
    ),
    "load_state": lambda fields: LoadState(name=_name(fields)),
    "delete_state": lambda fields: DeleteState(name=_name(fields)),
    "imagine": lambda fields: Imagine(
        velocities=fields.objects("velocities", MAX_PATHS, _velocity),
        seconds=fields.number("seconds", 0.1, MAX_SECONDS),
    ),
    "commit": lambda fields: Commit(future=fields.text("future", MAX_TEXT)),
    "cancel": lambda fields: Cancel(imagining=fields.integer("imagining", MAX_SEED)),
    "show_thumbnails": lambda fields: ShowThumbnails(),
}


def _call(fields: Fields) -> Call:
    name = fields.text("call", MAX_NAME)
    if name not in _REQUESTS:
        raise ProtocolError(f"unknown call {name!r}; known: {', '.join(_REQUESTS)}")
    return Call(id=fields.integer("id", MAX_SEED), request=_REQUESTS[name](fields))


_PARSERS: dict[str, Callable[[Fields], Message]] = {
    "acknowledge": lambda fields: Acknowledge(sequence=fields.integer("sequence", MAX_SEED)),
    "drive": lambda fields: Drive(velocity=_velocity(fields)),
    "call": _call,
}
