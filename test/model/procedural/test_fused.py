# SPDX-License-Identifier: Apache-2.0
"""The fused renderer draws the eager one's pictures, and compiles for a GPU that is not here."""

from pathlib import Path

import pytest
from triton_process import CAPABILITIES, compile_only, interpret, needs_triton

pytestmark = needs_triton
HERE = Path(__file__).parent


def test_the_fused_renderer_agrees_with_the_eager_one():
    interpret(HERE / "fused_checks.py")


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_fused_renderer_compiles_for_gpus(capability, tmp_path):
    printed = compile_only(HERE / "fused_compilation.py", capability, tmp_path)
    assert printed.split() == ["_render", "_render"]  # one for each style
