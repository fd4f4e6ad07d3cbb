# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros``: quick help, right exit codes, one line for wrong input."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from hydra_ros.cli import doctor
from hydra_ros.cli.main import available_commands, main

LOADED_BY_HELP = """
import sys
from hydra_ros.cli.main import main
try:
    main(["--help"])
finally:
    slow = {"torch", "rclpy", "cv2", "diffusers", "transformers"} & set(sys.modules)
    print("loaded:", sorted(slow), file=sys.stderr)
"""


def raising(error):
    def run(_options):
        raise error

    return run


def test_help_lists_the_commands_and_loads_nothing_slow():
    done = subprocess.run([sys.executable, "-c", LOADED_BY_HELP], capture_output=True, text=True)
    assert done.returncode == 0
    assert "loaded: []" in done.stderr
    for name in available_commands():
        assert name in done.stdout


@pytest.mark.parametrize("name", available_commands())
def test_each_command_has_one_line_of_help(name, capsys):
    command = importlib.import_module(f"hydra_ros.cli.{name}")
    assert command.HELP and "\n" not in command.HELP
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: hydra-ros {name}" in capsys.readouterr().out


def test_an_unknown_command_lists_the_right_ones(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["fly"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "'fly'" in message
    for name in available_commands():
        assert name in message.splitlines()[-1]


def test_wrong_input_is_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run", raising(ValueError("height is 0;\n  at least 16")))
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "hydra-ros doctor: height is 0; at least 16\n"


def test_a_missing_file_is_named(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "run", lambda _options: Path("/no/such/file").read_text())
    assert main(["doctor"]) == 2
    assert "/no/such/file" in capsys.readouterr().err


def test_traceback_shows_where_an_error_came_from(monkeypatch):
    monkeypatch.setattr(doctor, "run", raising(ValueError("height is 0")))
    with pytest.raises(ValueError, match="height"):
        main(["--traceback", "doctor"])


def test_an_error_that_is_not_the_users_is_not_hidden(monkeypatch):
    monkeypatch.setattr(doctor, "run", raising(RuntimeError("broken")))
    with pytest.raises(RuntimeError):
        main(["doctor"])


def test_control_c_ends_with_130(monkeypatch):
    monkeypatch.setattr(doctor, "run", raising(KeyboardInterrupt()))
    assert main(["doctor"]) == 130
