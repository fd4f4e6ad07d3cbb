# SPDX-License-Identifier: Apache-2.0
"""Dataclasses from what a file or a user says: every error names the field and what is accepted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Built = TypeVar("Built")


def build(cls: type[Built], values: Any, where: str = "config") -> Built:
    """Make a dataclass of ``values``; nested dataclasses, literals and tuples included."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {_kind(values)}; accepted: a mapping")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in values if key not in fields)
    if unknown:
        raise ValueError(
            f"{where}: unknown field {unknown[0]!r}; accepted: {', '.join(sorted(fields))}"
        )
    built = {k: _convert(hints[k], v, f"{where}.{k}") for k, v in values.items()}
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in built:
            raise ValueError(f"{where}: field {name!r} is missing ({_accepted(hints[name])})")
    try:
        return cls(**built)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        options = get_args(kind)
        if value is None and type(None) in options:
            return None
        (inner,) = (option for option in options if option is not type(None))
        return _convert(inner, value, where)
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        good = value in get_args(kind)
    elif origin is tuple:
        inner, *others = get_args(kind)
        count = None if others == [...] else 1 + len(others)
        if isinstance(value, (list, tuple)) and count in (None, len(value)):
            return tuple(_convert(inner, v, f"{where}[{i}]") for i, v in enumerate(value))
        good = False
    elif kind is float:
        # YAML reads 1e-5 (no point) as a text.
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = float(value)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        value = float(value) if good else value
        good = good and not math.isnan(value)
    elif kind is int:
        good = isinstance(value, int) and not isinstance(value, bool)
    else:
        good = isinstance(value, kind)
    if not good:
        raise ValueError(f"{where} is {value!r}; accepted: {_accepted(kind)}")
    return value


def _accepted(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if o is type(None) else _accepted(o) for o in get_args(kind))
    if origin is Literal:
        return " or ".join(str(option) for option in get_args(kind))
    if origin is tuple:
        inner, *others = get_args(kind)
        count = "" if others == [...] else f" of {1 + len(others)}"
        return f"a list{count}, each {_accepted(inner)}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, "a mapping")


def _kind(value: Any) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"


_RANGES: dict[str, Callable[[float], bool]] = {
    "1 or more": lambda value: value >= 1,
    "0 or more": lambda value: 0 <= value < math.inf,
    "above 0": lambda value: 0 < value < math.inf,
    "0 to 1": lambda value: 0 <= value <= 1,
    "0 or more and below 1": lambda value: 0 <= value < 1,
}


def check(settings: object, accepted: str, *names: str) -> None:
    """Raise ``ValueError`` unless these fields, or all their parts, are in a range (or None)."""
    for name in names:
        value = getattr(settings, name)
        parts = value if isinstance(value, tuple) else (value,)
        if not all(part is None or _RANGES[accepted](part) for part in parts):
            raise ValueError(f"{name} is {value}; accepted is {accepted}")
