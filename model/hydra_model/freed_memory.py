# SPDX-License-Identifier: Apache-2.0
"""Let a process keep the memory that a model frees on a CPU, for its next tensors.

A forward allocates and frees hundreds of tensors of some megabytes. The C library gives each of
them back to the system, which clears every page anew when the next one is written: a tenth of
the time that a chunk of the default model takes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform

# Numbers of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_KEPT = 512 << 20  # bytes that may lie free; what a process needs at most hardly changes
_LARGE = 64 << 20  # bytes from which a tensor is given back at once all the same


@functools.cache
def keep_freed_memory() -> bool:
    """Keep up to 512 MiB of freed memory, from now on; return whether that was possible.

    For the whole process, and for all its threads: a model often runs in another one than it
    was loaded in. Done once. What the environment says of it (``MALLOC_...``,
    ``GLIBC_TUNABLES``) stays, as does what other C libraries than glibc do.
    """
    said = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if said or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    # New threads share the main one's memory: their own lies in parts of 64 MiB, which are given
    # back whatever the threshold says.
    wanted = {_MMAP_THRESHOLD: _LARGE, _TRIM_THRESHOLD: _KEPT, _ARENA_MAX: 1}
    return all([library.mallopt(name, value) == 1 for name, value in wanted.items()])
