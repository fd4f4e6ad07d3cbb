# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/training.md against the programs."""

import re
from operator import attrgetter
from pathlib import Path

import yaml

from hydra_model.training.command import CONFIGS, presets
from hydra_model.training.procedural_run import Length, ProceduralRun
from hydra_model.training.settings import read_yaml
from hydra_model.typed_values import build

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def test_every_field_of_the_default_models_config_is_in_the_table_as_the_preset_has_it() -> None:
    table = TEXT[TEXT.index("| field | in the preset |") :]
    rows = re.findall(r"^\| (`.*?`) \| (.*?) ?\|", table[: table.index("\n\n")], re.MULTILINE)
    documented = {
        name: yaml.safe_load(value.strip("`")) for names, value in rows
        for name in re.findall("`(.*?)`", names)
    }  # fmt: skip
    settings = build(ProceduralRun, read_yaml(CONFIGS / "default.yaml"))
    for name, value in documented.items():
        real = attrgetter(name)(settings)
        assert real == (Length(**value) if isinstance(real, Length) else value), name
    # Groups of which the table has some fields.
    groups = {"autoencoder", "transformer", "few_step", "foresight"}
    assert set(documented) >= set(vars(settings)) - groups - {"recipe", "output"}


def test_every_preset_is_named() -> None:
    assert all(f"--preset {name}" in TEXT for name in presets())
