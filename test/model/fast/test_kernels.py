# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels compute what the plain passes do (in Triton's interpreter without a GPU).

That a GPU can run them is seen as far as it can be without one: they compile for it.
"""

from pathlib import Path

import pytest
from triton_process import CAPABILITIES, compile_only, interpret, needs_triton

pytestmark = needs_triton
HERE = Path(__file__).parent


def test_kernels_agree_with_the_plain_passes():
    interpret(HERE / "kernel_checks.py")


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_compile_for_gpus(capability, tmp_path):
    printed = compile_only(HERE / "kernel_compilation.py", capability, tmp_path)
    kernels = (
        "add_norm", "attend", "gather_patches", "merge", "normalise",
        "normalise_rotate", "scale_rows", "text_weights",
    )  # fmt: skip
    for kernel in kernels:
        assert f"_{kernel}: " in printed
    if capability >= 90:
        assert "_pack: 3" in printed and "_quantise: " in printed
