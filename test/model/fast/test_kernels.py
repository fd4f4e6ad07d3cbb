# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels compute what the plain passes do (in Triton's interpreter without a GPU)."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_agree_with_the_plain_passes():
    # In a process of its own: Triton decides on import whether it interprets.
    folder = Path(__file__).parent
    paths = (str(folder.parents[1]), os.environ.get("PYTHONPATH", ""))
    result = subprocess.run(
        [sys.executable, str(folder / "kernel_checks.py")],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
