# SPDX-License-Identifier: Apache-2.0
"""Captions of a data set in one text file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path


def read_captions(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the caption of each sample that has one.

    Accepted are lines "NAME<tab, colon, comma or space>caption" whose first word is a sample's
    folder (a path's last part counts), a JSON object of names and captions, and, where no line
    begins with a name, exactly one line per sample in the order of their names. Anything else
    is a ``ValueError``.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"captions {path} cannot be read: {error}") from error
    known = set(names)
    if text.lstrip().startswith("{"):
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ValueError(f"captions {path} are not JSON: {error}") from error
        return {_base(k): " ".join(str(v).split()) for k, v in values.items() if _base(k) in known}
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = {}
    for line in lines:
        first, *rest = re.split(r"[\t:,; |]+", line, maxsplit=1)
        if rest and _base(first) in known:
            found[_base(first)] = " ".join(rest[0].split())
    if found:
        return found
    if len(lines) == len(names):
        return dict(zip(sorted(names), lines, strict=True))
    raise ValueError(
        f"captions {path}: {len(lines)} lines, none of which begins with a sample's name, for "
        f"{len(names)} samples; accepted: NAME<tab>caption, or one line per sample"
    )


def _base(name: str) -> str:
    return name.strip("\"'").rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
