# SPDX-License-Identifier: Apache-2.0
"""Settings from YAML and the command line, before ``typed_values`` builds what they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml


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
        try:
            place[last] = yaml.safe_load(value) if value else None
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"--set {text!r} is not YAML: {reason}") from error
    return result


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}
