# SPDX-License-Identifier: Apache-2.0
"""Checksums of what a state is written as: what a disk or a copy changed is found when it is read.

They are no protection against who changes a state on purpose.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any


def file_checksum(path: Path) -> int:
    """Return the CRC-32 of a file.

    Raises ``OSError`` or ``ValueError`` where there is nothing to read.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return zlib.crc32(content)


def facts_checksum(facts: Mapping[str, Any]) -> int:
    """Return the CRC-32 of facts as JSON; those that were written and read again have the same."""
    return zlib.crc32(json.dumps(facts).encode())
