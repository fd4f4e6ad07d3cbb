# SPDX-License-Identifier: Apache-2.0
"""Limits on messages and speeds."""

import math

from hydra_ros.web.limits import RateLimit, SpeedLimits
from hydra_ros.web.protocol import Velocity


def test_a_burst_passes_and_then_the_rate():
    limit = RateLimit(rate=10.0, burst=5)
    assert [limit.passes(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not limit.passes(0.05)
    assert limit.passes(0.11)
    passed = sum(limit.passes(1.0 + i / 1000) for i in range(2000))
    assert 23 <= passed <= 26  # the burst, and two seconds' worth


def test_too_fast_is_slowed_in_its_own_direction():
    limits = SpeedLimits(linear=1.0, angular=0.5)
    slowed = limits.limit(Velocity(linear=(3.0, 4.0, 0.0), angular=(0.0, 0.0, -2.0)))
    assert math.isclose(math.hypot(*slowed.linear), 1.0)
    assert math.isclose(slowed.linear[1] / slowed.linear[0], 4 / 3)
    assert slowed.angular == (0.0, 0.0, -0.5)
    slow = Velocity(linear=(0.1, 0.0, 0.0))
    assert limits.limit(slow) == slow
