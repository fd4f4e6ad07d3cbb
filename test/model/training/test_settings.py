# SPDX-License-Identifier: Apache-2.0
"""Settings from YAML and the command line: every error names its field."""

import pytest

from hydra_model.training.command import CONFIGS
from hydra_model.training.finetune_run import FinetuneRun
from hydra_model.training.procedural_run import ProceduralRun
from hydra_model.training.settings import read_yaml, with_overrides
from hydra_model.typed_values import build


def test_a_file_that_is_no_mapping_is_refused(tmp_path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(ValueError, match=r"config.yaml cannot be read"):
        read_yaml(path)
    path.write_text("- 1\n- 2\n")
    with pytest.raises(ValueError, match="holds a list"):
        read_yaml(path)
    path.write_text("a: [1\n")
    with pytest.raises(ValueError, match="is not YAML"):
        read_yaml(path)


def test_fields_are_overridden_on_the_command_line() -> None:
    values = {"name": "x", "inner": {"steps": 5}}
    changed = with_overrides(values, ["inner.steps=7", "inner.rate=1e-3", "kind=b"])
    assert changed == {"name": "x", "kind": "b", "inner": {"steps": 7, "rate": "1e-3"}}
    assert values["inner"]["steps"] == 5
    with pytest.raises(ValueError, match="accepted: FIELD=VALUE"):
        with_overrides(values, ["steps"])
    with pytest.raises(ValueError, match=r"--set 'inner.sizes=\[1' is not YAML: .*expected"):
        with_overrides(values, ["inner.sizes=[1"])


@pytest.mark.parametrize(
    ("recipe", "field", "value", "accepted"),
    [
        ("default", "leg_seconds", 0, "above 0"),
        ("default", "leg_steps", 0, "1 or more"),
        ("default", "autoencoder.worlds", 0, "1 or more"),
        ("default", "autoencoder.epochs", -1, "1 or more"),
        ("default", "autoencoder.kl", -1, "0 or more"),
        ("default", "autoencoder.average_decay", 1, "0 or more and below 1"),
        ("default", "transformer.worlds", 0, "1 or more"),
        ("default", "transformer.draws", -1, "1 or more"),
        ("default", "transformer.shift", -3, "above 0"),
        ("default", "transformer.average_decay", 7, "0 or more and below 1"),
        ("default", "transformer.falling_share", -1, "0 to 1"),
        ("default", "transformer.learning_rate", -1, "0 or more"),
        ("default", "transformer.matrix_rate", ".inf", "0 or more"),
        ("default", "few_step.own_starts", 2, "0 to 1"),
        ("default", "few_step.context_noise", -1, "0 or more"),
        ("hydra-1.3b", "leg_steps", 0, "1 or more"),
        ("hydra-1.3b", "training.shift", 0, "above 0"),
        ("hydra-1.3b", "training.learning_rate", -1, "0 or more"),
        ("hydra-1.3b", "training.save_every", -1, "0 or more"),
        ("hydra-1.3b", "training.sample_steps", 0, "1 or more"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(recipe, field, value, accepted) -> None:
    kind = {"default": ProceduralRun, "hydra-1.3b": FinetuneRun}[recipe]
    values = with_overrides(read_yaml(CONFIGS / f"{recipe}.yaml"), [f"{field}={value}"])
    group, _, name = f"config.{field}".rpartition(".")
    with pytest.raises(ValueError, match=rf"{group}: {name} is \S+; accepted is {accepted}$"):
        build(kind, values)


@pytest.mark.parametrize(
    ("field", "value", "needed"),
    [
        ("transformer.own_share", 0.5, "weights to begin with: start_from and borrowed_autoen"),
        ("transformer.kept_blocks", 8, "weights to begin with: start_from and borrowed_autoen"),
        ("autoencoder.decoder_only", "true", "an encoder to begin with: start_from, without"),
    ],
)
def test_what_needs_weights_to_begin_with_is_refused_without(field, value, needed) -> None:
    values = with_overrides(read_yaml(CONFIGS / "default.yaml"), [f"{field}={value}"])
    with pytest.raises(ValueError, match=rf"{field} needs {needed}"):
        build(ProceduralRun, values)
