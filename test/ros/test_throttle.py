# SPDX-License-Identifier: Apache-2.0
from hydra_ros.throttle import Throttle


def test_one_message_of_a_kind_passes_per_period_and_says_how_many_did_not():
    throttle = Throttle(period=5.0)
    passed = [throttle.passes("flood", now / 100) for now in range(0, 1000)]
    assert [value for value in passed if value is not None] == [0, 499]


def test_kinds_do_not_hold_back_each_other():
    throttle = Throttle(period=5.0)
    assert throttle.passes("flood", 0.0) == 0
    assert throttle.passes("bad pose", 0.1) == 0
