# SPDX-License-Identifier: Apache-2.0
"""``hydra-ros demo`` refuses what it cannot show before it starts anything."""

import pytest

from hydra_ros.cli.main import main


@pytest.mark.parametrize(
    ("option", "value"),
    [("--frames", 0), ("--frames", 10**6), ("--seed", -1), ("--steps", -1), ("--timeout", 0)],
)
def test_wrong_options_are_one_line(tmp_path, capsys, option, value):
    assert main(["demo", "--output", str(tmp_path / "out"), option, str(value)]) == 2
    error = capsys.readouterr().err
    assert f"{option} is {value}" in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_one_line(tmp_path, capsys):
    model, out = tmp_path / "missing", tmp_path / "out"
    assert main(["demo", "--output", str(out), "--model", str(model)]) == 2
    error = capsys.readouterr().err
    assert f"{model}/config.json cannot be read" in error and error.count("\n") == 1
    assert not out.exists()
