# SPDX-License-Identifier: Apache-2.0
from hydra_ros.frame_clock import FrameClock

SECOND = 1_000_000_000


def test_lockstep_stamps_are_simulated_time_from_the_start_of_the_world():
    clock = FrameClock(simulated=True, from_zero=False)
    clock.start_world(100 * SECOND)
    assert clock.stamp(0.5, 170 * SECOND) == 100 * SECOND + SECOND // 2
    assert clock.stamp(1.0, 999 * SECOND) == 101 * SECOND
    assert clock.now(999 * SECOND) == 999 * SECOND


def test_realtime_stamps_are_the_nodes_clock():
    clock = FrameClock(simulated=False, from_zero=False)
    clock.start_world(100 * SECOND)
    assert clock.stamp(0.5, 170 * SECOND) == 170 * SECOND


def test_a_published_clock_counts_from_zero():
    clock = FrameClock(simulated=True, from_zero=True)
    clock.start_world(100 * SECOND)
    assert clock.stamp(0.5, 0) == SECOND // 2
    # It is the source of time: there is no other but that of the last frame.
    assert clock.now(170 * SECOND) == SECOND // 2


def test_stamps_never_run_backwards_over_a_reset():
    for from_zero in (False, True):
        clock = FrameClock(simulated=True, from_zero=from_zero)
        clock.start_world(100 * SECOND)
        last = clock.stamp(60.0, 101 * SECOND)
        clock.start_world(102 * SECOND)
        assert clock.stamp(1 / 15, 102 * SECOND) > last


def test_a_clock_that_jumps_back_does_not_take_the_stamps_with_it():
    clock = FrameClock(simulated=False, from_zero=False)
    last = clock.stamp(0.0, 50 * SECOND)
    assert clock.stamp(0.1, 20 * SECOND) >= last


def test_the_first_world_has_the_time_of_the_saved_state_that_it_goes_on_from():
    clock = FrameClock(simulated=True, from_zero=True)
    clock.start_world(0, 60.0)
    assert clock.stamp(60.5, 0) == round(60.5e9)


def test_loading_a_state_goes_on_where_the_stamps_ended():
    clock = FrameClock(simulated=True, from_zero=False)
    clock.start_world(1000 * 10**9)
    assert clock.stamp(30.0, 0) == 1030 * 10**9
    clock.start_world(1001 * 10**9, 20.0)
    assert clock.stamp(20.5, 0) == round(1030.5e9)


def test_the_stamp_of_a_frame_is_known_before_it_is_published():
    clock = FrameClock(simulated=True, from_zero=False)
    clock.start_world(5 * 10**9)
    assert clock.expected(2.0, 0) == clock.stamp(2.0, 0) == 7 * 10**9
    assert FrameClock(simulated=False, from_zero=False).expected(2.0, 9) == 9
