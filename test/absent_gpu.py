# SPDX-License-Identifier: Apache-2.0
"""Compiles Triton kernels for a GPU that is not there: what is refused shows on any CPU."""

from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver
from triton.runtime.jit import JITFunction

# Bytes of shared memory that a program may have, by compute capability (CUDA C++ Programming
# Guide, "Technical Specifications per Compute Capability"): checked at the launch, which is not
# reached here.
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}


class AbsentGpu:
    """What Triton asks of a driver in order to compile; nothing can be launched."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


def compile_instead_of_launching(capability: int) -> list[str]:
    """Let every launch from now on compile its kernel for a compute capability, and stop there.

    Operands may lie in main memory; outputs are left as they are. Returns the list to which the
    names of compiled kernels are added, for each specialisation.
    """
    driver.set_active(AbsentGpu(capability))
    compiled = []

    def launch(self, grid):
        def compile_only(*args, **kwargs):
            kernel = self.run(*args, grid=grid, warmup=True, **kwargs)
            assert kernel.metadata.shared <= SHARED_MEMORY[capability], kernel.metadata
            compiled.append(kernel.metadata.name)

        return compile_only

    JITFunction.__getitem__ = launch
    return compiled
