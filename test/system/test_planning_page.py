# SPDX-License-Identifier: Apache-2.0
"""The program in docs/planning.md does what the page says."""

import re
from pathlib import Path

import small_models

PAGE = Path(__file__).parents[2] / "docs" / "planning.md"


def test_the_program_on_the_page_runs(start_simulator, tmp_path, capsys):
    text = PAGE.read_text(encoding="utf-8")
    program = re.search(r"<!-- snippet: begin .*?```python\n(.*?)```", text, re.DOTALL)
    assert program, "the page has lost the marks around its program"
    small_models.write_model(tmp_path / "tiny")
    parameters = {
        "model": tmp_path / "tiny", "playback_speed": 0.0, "states_folder": tmp_path / "states",
    }  # fmt: skip
    with start_simulator("/planning_page", **parameters):
        # The page is about a simulator without a namespace.
        code = program[1].replace("SimulatorClient()", 'SimulatorClient("/planning_page")')
        names: dict = {}
        exec(compile(code, str(PAGE), "exec"), names)
    assert len(names["futures"]) == 5
    assert len(names["frames"]) == 17
    assert "at 1.13 s after candidate" in capsys.readouterr().out
