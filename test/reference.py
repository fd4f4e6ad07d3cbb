# SPDX-License-Identifier: Apache-2.0
"""Where reference data lies that tests use when it is there and never need."""

import os
from pathlib import Path

import pytest


def reference_folder(*parts: str) -> Path:
    """Return a path of the reference data, or skip the calling test when it is not there."""
    root = Path(os.environ.get("HYDRA_ROS_REFERENCE", Path(__file__).parents[2] / "shared"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {path} is not here (set HYDRA_ROS_REFERENCE)")
    return path
