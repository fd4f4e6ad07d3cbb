# SPDX-License-Identifier: Apache-2.0
"""Settings from YAML: typed, and every error names its field."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from hydra_model.training.command import CONFIGS
from hydra_model.training.finetune_run import FinetuneRun
from hydra_model.training.procedural_run import ProceduralRun
from hydra_model.training.settings import build, read_yaml, with_overrides


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    steps: int = 3
    sizes: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; accepted is 1 or more")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
    eager: bool = False
    inner: Inner = field(default_factory=Inner)


def test_values_arrive_typed() -> None:
    values = {"name": "x", "kind": "b", "inner": {"rate": "1e-5", "sizes": [4]}}
    assert build(Outer, values) == Outer(name="x", kind="b", inner=Inner(rate=1e-5, sizes=(4,)))
    assert isinstance(build(Outer, {"name": "x", "inner": {"rate": 1}}).inner.rate, float)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "config: field 'name' is missing"),
        ({"name": "x", "knd": "a"}, "config: unknown field 'knd'; accepted: eager, inner"),
        ({"name": "x", "kind": "c"}, "config.kind is 'c'; accepted: a or b"),
        ({"name": 3}, "config.name is 3; accepted: a text"),
        ({"name": "x", "limit": "many"}, "config.limit is 'many'; accepted: a whole number"),
        ({"name": "x", "eager": 1}, "config.eager is 1; accepted: true or false"),
        ({"name": "x", "inner": {"steps": 2.5}}, "config.inner.steps is 2.5; accepted: a whole"),
        ({"name": "x", "inner": {"steps": 0}}, "config.inner: steps is 0; accepted is 1 or more"),
        ({"name": "x", "inner": {"sizes": [1, "b"]}}, r"config.inner.sizes\[1\] is 'b'"),
        ({"name": "x", "inner": None}, "config.inner is empty; accepted: a mapping"),
    ],
)
def test_what_is_wrong_is_named(values, said) -> None:
    with pytest.raises(ValueError, match=said):
        build(Outer, values)


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
