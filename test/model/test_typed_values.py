# SPDX-License-Identifier: Apache-2.0
"""Dataclasses from what a file says: typed, and every error names its field."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from hydra_model.typed_values import build


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
