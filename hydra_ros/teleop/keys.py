# SPDX-License-Identifier: Apache-2.0
"""Keys of a terminal -> directions: what each means, and which count as held.

A terminal sends a byte or an escape sequence when a key goes down, repeats it after a delay
(mostly 0.25 to 0.6 s) some thirty times a second, and says nothing when it goes up. So a key
counts as held for a while after it was last seen: long until the first repeat is due, short
between repeats. Only the key that was pressed last repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hydra_ros.teleop.motion import FORWARD, LEFT, ROLL, TILT_DOWN, TURN_LEFT, UP

DIRECTIONS = {
    "w": FORWARD,
    "s": -FORWARD,
    "a": LEFT,
    "d": -LEFT,
    "r": UP,
    "f": -UP,
    "left": TURN_LEFT,
    "right": -TURN_LEFT,
    "up": -TILT_DOWN,
    "down": TILT_DOWN,
    "j": TURN_LEFT,
    "l": -TURN_LEFT,
    "i": -TILT_DOWN,
    "k": TILT_DOWN,
    "u": FORWARD + TURN_LEFT,
    "o": FORWARD - TURN_LEFT,
    "z": -ROLL,
    "x": ROLL,
}
FASTER, SLOWER, STOP, QUIT = ("+", "="), ("-", "_"), (" ", "enter"), ("q", "ctrl-d")
SPEED_STEP = 1.25

HELP = """\
  w s   forward, back          arrows or i j k l   look up, left, down, right
  a d   left, right            u o                 forward in a curve
  r f   up, down               z x                 roll
  + -   faster, slower         space               stop at once
  q     quit                   hold a key to move; release it to stop"""

_ESCAPES = {
    prefix + letter: name
    for prefix in (b"\x1b[", b"\x1bO")
    for letter, name in ((b"A", "up"), (b"B", "down"), (b"C", "right"), (b"D", "left"))
}
_CONTROLS = {b"\x04": "ctrl-d", b"\r": "enter", b"\n": "enter", b"\x1b": "escape"}


def split_keys(data: bytes) -> tuple[list[str], bytes]:
    """Return the names of the keys in what a terminal sent, and a rest that is not complete.

    Letters are their own names, in lower case: Caps Lock changes nothing. Sequences of keys
    without a meaning here are skipped as a whole.
    """
    keys = []
    while data:
        length = _length(data)
        if length is None:
            return keys, data
        key, data = data[:length], data[length:]
        name = _ESCAPES.get(key) or _CONTROLS.get(key)
        if name is None and len(key) == 1 and 32 <= key[0] < 127:
            name = key.decode().lower()
        if name:
            keys.append(name)
    return keys, b""


def _length(data: bytes) -> int | None:
    """Return the number of bytes of the first key, None where more must come."""
    if data[:1] != b"\x1b":
        return 1
    if len(data) < 2:
        return None
    if data[1:2] == b"O":
        return 3 if len(data) >= 3 else None
    if data[1:2] != b"[":
        return 1  # the Escape key, and then another one
    for index, byte in enumerate(data[2:], 2):
        if 0x40 <= byte <= 0x7E:  # ECMA-48: the byte that ends a control sequence
            return index + 1
        if not 0x20 <= byte <= 0x3F:
            return index  # no control sequence; the rest is looked at anew
    return None


@dataclass
class _Held:
    last: float
    repeating: bool


class HeldKeys:
    """Which keys count as held, by when they were seen (seconds of any clock).

    ``first_hold`` bridges the delay before a terminal repeats a key, ``repeat_hold`` the time
    between two repeats.
    """

    def __init__(self, *, first_hold: float, repeat_hold: float) -> None:
        self._first_hold = first_hold
        self._repeat_hold = repeat_hold
        self._held: dict[str, _Held] = {}

    def press(self, key: str, now: float) -> None:
        """A key was sent: it went down, or repeats."""
        before = self._held.get(key)
        repeating = before is not None and now <= self._until(before)
        self._held[key] = _Held(now, repeating)

    def release_all(self) -> None:
        self._held.clear()

    def direction(self, now: float) -> np.ndarray:
        """Return the sum [6] of the directions of the keys held now; entries are -1 to 1."""
        self._held = {key: held for key, held in self._held.items() if now <= self._until(held)}
        total = sum((DIRECTIONS[key] for key in self._held), np.zeros(6))
        return np.clip(total, -1.0, 1.0)

    def _until(self, held: _Held) -> float:
        return held.last + (self._repeat_hold if held.repeating else self._first_hold)
