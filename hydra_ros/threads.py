# SPDX-License-Identifier: Apache-2.0
"""How the process's computing threads wait for each other."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

# 77 frames on two idle cores take 2.5 s with 0, 2.2 with 1,000, 2.0 with 3,000 and with 10,000;
# with five other processes that compute 10.9, 11.6, 13.0 and 17.6 s.
_SPINS = "2000"


def let_idle_threads_sleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make OpenMP threads that wait sleep soon. Call it before PyTorch is imported.

    A simulator rarely has the cores for itself. Where other processes want them too, spinning
    threads take the cores from those they wait for: 77 frames took 48 s instead of 8 s on two
    cores with a load of 7. But to be woken for each of a forward's thousands of short loops takes
    a fifth of its time, so they spin for some microseconds first (GNU's OpenMP, which PyTorch's
    wheels have for Linux; others sleep at once). A user's own choice stays.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)
