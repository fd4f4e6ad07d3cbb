# SPDX-License-Identifier: Apache-2.0
"""The fused renderer draws the eager one's pictures, and compiles for a GPU that is not here."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def run(script, **environment):
    """Run a script in a process of its own: Triton decides on import whether it interprets."""
    return subprocess.run(
        [sys.executable, str(HERE / script)], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def test_the_fused_renderer_agrees_with_the_eager_one():
    result = run("fused_checks.py", TRITON_INTERPRET="1")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_fused_renderer_compiles_for_a_gpu(tmp_path):
    ptxas = Path(find_spec("triton").origin).parent / "backends" / "nvidia" / "bin" / "ptxas"
    if not ptxas.exists():
        pytest.skip("this Triton brings no compiler for NVIDIA GPUs")
    result = run("fused_compiles.py", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
