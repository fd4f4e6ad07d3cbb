# SPDX-License-Identifier: Apache-2.0
"""Two processes exchange full-size images without losing one."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from hydra_ros import loopback


def test_every_image_of_a_stream_comes_back():
    # A machine that stands still for longer than the queues hold (ten images) costs images. Where
    # transports lose images of this size they lose them every time, at any of these rates.
    for rate in (30.0, 30.0, 15.0, 7.5):
        trip = loopback.image_round_trip(count=120, rate=rate, height=480, width=832)
        if trip.received == trip.sent:
            break
    assert (trip.sent, trip.received) == (120, 120)
    assert trip.median_s > 0


def test_a_process_that_ends_early_is_an_error(monkeypatch):
    def exits(_command):
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])

    monkeypatch.setattr(loopback, "subprocess", SimpleNamespace(Popen=exits))
    with pytest.raises(TimeoutError, match="ended early \\(exit code 3\\)"):
        loopback.image_round_trip(count=1)
