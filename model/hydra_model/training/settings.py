# SPDX-License-Identifier: Apache-2.0
"""Typed settings from YAML: every error names the field and says what is accepted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

Settings = TypeVar("Settings")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping that a YAML file holds, or raise ``ValueError`` naming the file."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"config {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"config {path} holds a {type(values).__name__}; a mapping is needed")
    return values


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return ``values`` with "field.field=value" applied; values are read as YAML."""
    result = _copied(values)
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise ValueError(f"--set {text!r}; accepted: FIELD=VALUE, such as training.steps=100")
        *outer, last = path.split(".")
        place = result
        for key in outer:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ValueError(f"--set {text!r}: {key} is no group of fields")
        place[last] = yaml.safe_load(value) if value else None
    return result


def build(cls: type[Settings], values: Any, where: str = "config") -> Settings:
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
        if isinstance(value, (list, tuple)):
            inner = get_args(kind)[0]
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
        return f"a list, each {_accepted(get_args(kind)[0])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, "a mapping")


def _kind(value: Any) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}
