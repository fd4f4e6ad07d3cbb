# SPDX-License-Identifier: Apache-2.0
"""How the process's computing threads wait for each other."""

from __future__ import annotations

import os
from collections.abc import MutableMapping


def let_idle_threads_sleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make OpenMP threads that wait sleep instead of spinning; call it before importing PyTorch.

    A simulator rarely has the cores for itself. Where other processes want them too, spinning
    threads take the cores from those they wait for: 77 frames took 48 s instead of 8 s on two
    cores with a load of 7. A user's own choice stays.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
