# SPDX-License-Identifier: Apache-2.0
from diagnostic_msgs.msg import DiagnosticStatus
from std_msgs.msg import Header

from hydra_ros.diagnostics import Counters, Status, diagnostic_message


def message(**values) -> DiagnosticStatus:
    values = {"state": "running", "mode": "realtime", "counters": Counters(), **values}
    return diagnostic_message(Status(**values), "/hydra_simulator", Header()).status[0]


def test_a_running_simulator_is_well_and_says_what_it_does():
    counters = Counters(refused=2, dropped=3)
    status = message(
        real_time_factor=1.0, latency=0.25, memory_size=40, memory_bytes=2_500_000,
        counters=counters,
    )  # fmt: skip
    assert status.level == DiagnosticStatus.OK
    values = {pair.key: pair.value for pair in status.values}
    assert values["state"] == "running"
    assert values["real_time_factor"] == "1.00"
    assert values["latency_s"] == "0.250"
    assert values["memory_latent_frames"] == "40"
    assert values["memory_megabytes"] == "2.5"
    assert (values["commands_refused"], values["commands_dropped"]) == ("2", "3")


def test_a_simulator_behind_the_wall_clock_warns():
    assert message(real_time_factor=0.5).level == DiagnosticStatus.WARN
    assert message(real_time_factor=0.5, mode="lockstep").level == DiagnosticStatus.OK


def test_a_failure_is_an_error_that_says_what_failed():
    status = message(problem="a chunk failed: out of memory")
    assert (status.level, status.message) == (
        DiagnosticStatus.ERROR,
        "a chunk failed: out of memory",
    )


def test_a_simulator_without_a_world_says_what_to_do():
    status = message(state="no world")
    assert status.level == DiagnosticStatus.WARN
    assert "~/reset" in status.message
