# SPDX-License-Identifier: Apache-2.0
"""Bytes of a terminal -> keys -> directions, and which keys count as held."""

import numpy as np
import pytest

from hydra_ros.teleop.keys import DIRECTIONS, HELP, HeldKeys, split_keys
from hydra_ros.teleop.motion import FORWARD, LEFT, TURN_LEFT


@pytest.mark.parametrize(
    "data, keys",
    [
        (b"w", ["w"]),
        (b"W", ["w"]),  # Caps Lock
        (b"ww ", ["w", "w", " "]),
        (b"\x1b[A\x1b[D", ["up", "left"]),
        (b"\x1bOC", ["right"]),  # application mode of the cursor keys
        (b"w\x1b[15~a", ["w", "a"]),  # F5 means nothing, and its digits are no keys
        (b"\x1b[1;5Aa", ["a"]),  # Ctrl and an arrow
        ("ä".encode(), []),
        (b"\x04", ["ctrl-d"]),
    ],
)
def test_bytes_become_keys(data, keys):
    assert split_keys(data) == (keys, b"")


def test_a_sequence_that_is_cut_waits_for_its_rest():
    keys, rest = split_keys(b"w\x1b[")
    assert keys == ["w"]
    assert split_keys(rest + b"B") == (["down"], b"")


def test_every_key_that_moves_is_in_the_help():
    for key in DIRECTIONS:
        assert f" {key} " in HELP.replace(",", " ") + " " or key in ("left", "right", "up", "down")


def held() -> HeldKeys:
    return HeldKeys(first_hold=0.6, repeat_hold=0.15)


def test_a_key_pressed_once_counts_as_held_until_its_repeat_would_have_come():
    keys = held()
    keys.press("w", 10.0)
    np.testing.assert_array_equal(keys.direction(10.5), FORWARD)
    assert not keys.direction(10.7).any()


def test_a_repeating_key_is_released_soon_after_the_last_repeat():
    keys = held()
    for seen in (10.0, 10.5, 10.53, 10.56):
        keys.press("w", seen)
    np.testing.assert_array_equal(keys.direction(10.70), FORWARD)
    assert not keys.direction(10.72).any()


def test_a_key_pressed_again_later_gets_the_long_hold_again():
    keys = held()
    keys.press("w", 10.0)
    keys.press("w", 12.0)
    np.testing.assert_array_equal(keys.direction(12.5), FORWARD)


def test_keys_add_up_and_opposite_ones_cancel():
    keys = held()
    for key in ("w", "a", "left"):
        keys.press(key, 0.0)
    np.testing.assert_array_equal(keys.direction(0.1), FORWARD + LEFT + TURN_LEFT)
    keys.press("s", 0.1)
    np.testing.assert_array_equal(keys.direction(0.1), LEFT + TURN_LEFT)
    keys.press("u", 0.1)
    assert keys.direction(0.1).max() == 1.0  # two keys for one direction are no faster


def test_releasing_all_stops():
    keys = held()
    keys.press("w", 0.0)
    keys.release_all()
    assert not keys.direction(0.0).any()
