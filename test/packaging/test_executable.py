# SPDX-License-Identifier: Apache-2.0
"""What pip installs, `ros2 run` and `ros2 launch` start ends quietly on Ctrl-C while it loads."""

import signal
import subprocess
import sys
from importlib.metadata import distribution

import pytest

from hydra_ros import executables

SLOW = """
import time
print("loading", flush=True)
time.sleep({loading})
def main():
    try:
        print("running", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        return 5
"""


@pytest.mark.parametrize(
    ("loading", "interrupted_at", "code"), [(60, b"loading\n", 0), (0, b"running\n", 5)]
)
def test_an_interrupt_has_no_traceback(root, tmp_path, loading, interrupted_at, code):
    template = (root / "cmake" / "executable.py.in").read_text(encoding="utf-8")
    (tmp_path / "program").write_text(template.replace("@module@", "slow_module"))
    (tmp_path / "slow_module.py").write_text(SLOW.format(loading=loading))
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        while process.stdout.readline() != interrupted_at:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stderr.read()) == (code, b"")
    finally:
        process.kill()


def test_pips_executables_are_those_of_ros_and_begin_alike(root, monkeypatch):
    installed = (root / "CMakeLists.txt").read_text(encoding="utf-8")
    scripts = distribution("hydra_ros").entry_points.select(group="console_scripts")
    for script in scripts:
        started = []
        monkeypatch.setattr(executables, "start", started.append)
        script.load()()
        assert f"\ninstall_executable({script.name} {started[0]})" in installed
    assert installed.count("\ninstall_executable(") == len(scripts) > 0
