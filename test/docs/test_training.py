# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/training.md against the programs."""

import re
from pathlib import Path

from hydra_model.training.__main__ import build_parser
from hydra_model.training.command import presets

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def test_every_option_is_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `(--[\w-]+)` \| (.*?) ?\|", TEXT, re.MULTILINE)
    documented = {name: default.strip("` ") for name, default in rows}
    actions = [a for a in build_parser()._actions if a.option_strings and a.dest != "help"]
    real = {
        a.option_strings[-1]: "" if a.default is None or a.default is False else str(a.default)
        for a in actions
    }
    assert documented == real


def test_every_preset_is_named() -> None:
    assert all(f"--preset {name}" in TEXT for name in presets())
