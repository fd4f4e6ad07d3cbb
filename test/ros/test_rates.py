# SPDX-License-Identifier: Apache-2.0
import pytest

from hydra_ros.rates import Pacer, RateMeter


def times_out(pacer: Pacer, rate: float, looks: list[float]) -> list[float]:
    return [now for now in looks if pacer.due(now, rate)]


def test_frames_are_due_at_the_rate_without_drift():
    pacer = Pacer()
    looks = [100 + 0.013 * i for i in range(1000)]  # looked at 77 times a second
    out = times_out(pacer, 15.0, looks)
    assert len(out) == pytest.approx(15 * 13, abs=1)


def test_a_late_frame_is_due_at_once_and_is_not_caught_up_with():
    pacer = Pacer()
    assert times_out(pacer, 10.0, [0.0, 0.05, 0.1]) == [0.0, 0.1]
    assert times_out(pacer, 10.0, [5.0, 5.01, 5.05, 5.1]) == [5.0, 5.1]


def test_rate_zero_makes_every_frame_due():
    assert times_out(Pacer(), 0.0, [1.0, 1.0, 1.0]) == [1.0, 1.0, 1.0]


def test_the_wait_leads_to_the_next_frame():
    pacer = Pacer()
    pacer.due(10.0, 4.0)
    assert pacer.wait(10.1) == pytest.approx(0.15)
    assert pacer.due(10.1 + pacer.wait(10.1), 4.0)


def test_the_meter_measures_the_present_rate():
    meter = RateMeter(window=5.0)
    for i in range(100):
        meter.add(i / 15)
    assert meter.rate(99 / 15) == pytest.approx(15)


def test_a_stall_lowers_the_rate_while_it_lasts():
    meter = RateMeter(window=5.0)
    for i in range(31):
        meter.add(i / 15)
    assert meter.rate(2.0 + 1 / 15) == pytest.approx(15)
    assert meter.rate(4.0) == pytest.approx(7.5, rel=0.05)
    assert meter.rate(60.0) == 0.0
