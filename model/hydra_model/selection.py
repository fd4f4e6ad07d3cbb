# SPDX-License-Identifier: Apache-2.0
"""Which remembered frames condition a chunk: policies behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hydra_model.memory import MemoryBank

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a chunk needs memory for.

    ``poses [k, 4, 4]`` (optical camera-to-world, metres) and ``times [k]`` (simulated seconds)
    of its latent frames; at most ``count`` frames are wanted, a multiple of ``multiple``.
    ``fov_x`` is the horizontal field of view in radians, ``aspect`` image height over width.
    """

    poses: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]
    count: int
    multiple: int
    fov_x: float
    aspect: float


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The frames that a policy chose of the N in memory, and why.

    ``indices`` are oldest first. ``scores`` hold one value for every remembered frame and term
    of the policy, ``total`` their sum as the policy weighs them; higher is more relevant.
    """

    policy: str
    indices: npt.NDArray[np.int64]
    scores: dict[str, Scores]
    total: Scores


Policy = Callable[[MemoryBank, Request], Selection]

RECENCY_SECONDS = 10.0  # age at which the "recent" score has fallen to 1/e


def select(policy: str, memory: MemoryBank, request: Request) -> Selection:
    """Choose frames by a policy's name; raises ``ValueError`` where memory is too young."""
    return POLICIES[check_policy(policy)](memory, request)


def check_policy(name: str) -> str:
    """Return the name of a policy, or raise ``ValueError`` with the accepted ones."""
    if name not in POLICIES:
        raise ValueError(f"memory policy is {name!r}; accepted: {', '.join(POLICIES)}")
    return name


def recency(memory: MemoryBank, request: Request) -> Scores:
    """Return a score that fades with a frame's age at the chunk's begin, float32 [N]."""
    age = np.maximum(request.times[0] - memory.times, 0.0)
    return np.exp(-age / RECENCY_SECONDS).astype(np.float32)


def recent(memory: MemoryBank, request: Request) -> Selection:
    """Choose the newest frames: what the released model assumes."""
    score = recency(memory, request)
    return Selection(
        policy="recent",
        indices=memory.recent(request.count, request.multiple),
        scores={"recent": score},
        total=score,
    )


POLICIES: dict[str, Policy] = {"recent": recent}
