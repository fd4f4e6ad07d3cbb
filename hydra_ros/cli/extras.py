# SPDX-License-Identifier: Apache-2.0
"""Packages that only some commands need."""

from __future__ import annotations

import importlib.util


def require(extra: str, *modules: str) -> None:
    """Check that modules of an optional extra are installed.

    Raises:
        ValueError: one is missing; the message says how to install it.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"this needs {', '.join(missing)}: pip install 'hydra_ros[{extra}]', or the packages"
        )
