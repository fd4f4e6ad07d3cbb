# SPDX-License-Identifier: Apache-2.0
"""The definition of a message type as it stands in a bag: the type's own text and all it uses."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_SEPARATOR = "=" * 80
_BUILT_IN = {
    "bool", "byte", "char", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32",
    "uint32", "int64", "uint64", "string", "wstring",
}  # fmt: skip


def message_definition(name: str) -> str:
    """Return the "ros2msg" schema of a type such as "sensor_msgs/msg/Image".

    Raises:
        LookupError: the definition of the type, or of one that it uses, is not installed.
    """
    texts = {name: _read(name)}
    wanted = list(_used(name, texts[name]))
    while wanted:
        used = wanted.pop(0)
        if used not in texts:
            texts[used] = _read(used)
            wanted.extend(_used(used, texts[used]))
    first, *others = texts.items()
    parts = [first[1]]
    for used, text in others:
        parts.append(f"{_SEPARATOR}\nMSG: {used.replace('/msg/', '/')}\n{text}")
    return "\n".join(parts)


def _read(name: str) -> str:
    package, _, message = name.replace("/msg/", "/").partition("/")
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    for prefix in filter(None, prefixes):
        path = Path(prefix, "share", package, "msg", f"{message}.msg")
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise LookupError(f"the definition of {name} is not installed")


def _used(name: str, text: str) -> Iterator[str]:
    """Yield the full names of the message types among a definition's fields."""
    package = name.split("/")[0]
    for line in text.splitlines():
        match = re.match(r"\s*([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+\w", line)
        if match and match.group(1) not in _BUILT_IN:
            kind = match.group(1)
            if "/" not in kind:
                kind = f"{package}/{kind}"
            yield kind.replace("/msg/", "/").replace("/", "/msg/")
