# SPDX-License-Identifier: Apache-2.0
"""The program in docs/planning.md does what the page says."""

import re
from pathlib import Path

import numpy as np

import small_models

PAGE = Path(__file__).parents[2] / "docs" / "planning.md"


def test_the_program_on_the_page_runs(start_simulator, tmp_path, capsys):
    text = PAGE.read_text(encoding="utf-8")
    program = re.search(r"<!-- snippet: begin .*?```python\n(.*?)```", text, re.DOTALL)
    assert program, "the page has lost the marks around its program"
    small_models.write_model(tmp_path / "tiny")
    # At the usual speed, at which a commit's frames are still coming when the next step begins.
    parameters = {"model": tmp_path / "tiny", "states_folder": tmp_path / "states"}
    with start_simulator("/planning_page", **parameters):
        # The page is about a simulator without a namespace.
        code = program[1].replace("SimulatorClient()", 'SimulatorClient("/planning_page")')
        names: dict = {}
        exec(compile(code, str(PAGE), "exec"), names)
    assert len(names["futures"]) == 5
    assert len(names["frames"]) == 17
    poses = [frame.pose for frame in names["frames"]]
    assert np.allclose(poses, names["camera"].pose @ names["turning"](10), atol=1e-5)
    assert "at 1.13 s after candidate" in capsys.readouterr().out
