# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels compute what the plain passes do (in Triton's interpreter without a GPU).

That a GPU can run them is seen as far as it can be without one: they compile for it.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


def run(*command: str, **environment: str) -> str:
    """Run a script beside this file in a process of its own: Triton decides on import whether it
    interprets. Returns what it printed."""
    folder = Path(__file__).parent
    paths = (str(folder.parents[1]), os.environ.get("PYTHONPATH", ""))
    result = subprocess.run(
        [sys.executable, str(folder / command[0]), *command[1:]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_kernels_agree_with_the_plain_passes():
    run("kernel_checks.py", TRITON_INTERPRET="1")


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(capability, tmp_path):
    printed = run(
        "kernel_compilation.py", str(capability),
        TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path),
    )  # fmt: skip
    for kernel in ("_add_norm", "_attend", "_merge", "_normalise", "_normalise_rotate"):
        assert f"{kernel}: " in printed
