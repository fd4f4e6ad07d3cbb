# SPDX-License-Identifier: Apache-2.0
"""Progress where there is no terminal (lines) and where there is one (bars)."""

import io
import time

from hydra_ros.progress import ProgressReport


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_is_a_line_per_stage_and_at_most_one_per_second():
    out = io.StringIO()
    with ProgressReport(out) as report:
        report.stage("Loading")
        report.stage("Frames", total=40)
        for done in range(41):
            report.update(done)
            time.sleep(0.03)
        report.say("said")
    lines = out.getvalue().splitlines()
    assert lines[0] == "Loading ..."
    assert lines[1] == "Frames ..."
    assert lines[-1].startswith("Frames: 40/40 (1.")
    assert "said" in lines
    assert len(lines) == 5  # one in between, after a second


def test_a_stage_that_was_not_finished_is_not_said_to_be():
    out = io.StringIO()
    try:
        with ProgressReport(out) as report:
            report.stage("Frames", total=40)
            report.update(3)
            raise RuntimeError
    except RuntimeError:
        pass
    assert "40/40" not in out.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with ProgressReport(out) as report:
        report.stage("Frames", total=4)
        report.update(4)
        report.say("[said]")
    assert "Frames" in out.getvalue() and "4/4" in out.getvalue() and "[said]" in out.getvalue()
