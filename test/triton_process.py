# SPDX-License-Identifier: Apache-2.0
"""Runs scripts that use Triton, each in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
CAPABILITIES = (80, 90)  # of the GPUs that kernels are compiled for: A100, H100


def interpret(script: Path) -> str:
    """Run a script with kernels interpreted; return what it printed."""
    return _run(script, TRITON_INTERPRET="1")


def compile_only(script: Path, capability: int, cache: Path) -> str:
    """Run a script that compiles kernels (``absent_gpu``); return what it printed."""
    return _run(script, str(capability), TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(cache))


def _run(script: Path, *arguments: str, **environment: str) -> str:
    # Triton decides on import whether it interprets: hence the process.
    paths = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
    result = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
