# SPDX-License-Identifier: Apache-2.0
"""Which remembered frames condition a chunk: policies behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hydra_model.memory import MemoryBank
from hydra_model.overlap import cover, target_points, view_quality

Mask = npt.NDArray[np.bool_]
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

RECENCY_SECONDS = 10.0  # age at which the "recent" score has fallen to a half
RECENT_SHARE = 0.5  # of the slots of "hybrid" that go to the newest frames
RUN_FRAMES = 4  # neighbouring frames that are taken together
IMAGINED_WORTH = 0.8  # of a view, where an observed one counts as 1
_LEAST_GAIN = 0.01  # of the sampled points that a run must add to be worth its slots
_NEWER_GAIN = 0.1  # how much more the newest run is preferred to a very old one of equal view
_LARGEST_STEP = 1.0  # seconds between neighbours that still are one clip


def select(policy: str, memory: MemoryBank, request: Request) -> Selection:
    """Choose frames by a policy's name; raises ``ValueError`` where memory is too young."""
    return POLICIES[check_policy(policy)](memory, request)


def check_policy(name: str) -> str:
    """Return the name of a policy, or raise ``ValueError`` with the accepted ones."""
    if name not in POLICIES:
        raise ValueError(f"memory policy is {name!r}; accepted: {', '.join(POLICIES)}")
    return name


def recent(memory: MemoryBank, request: Request) -> Selection:
    """Choose the newest frames: what the released model assumes."""
    score = recency(memory, request)
    return Selection(
        policy="recent",
        indices=memory.recent(request.count, request.multiple),
        scores={"recent": score},
        total=score,
    )


def overlap(memory: MemoryBank, request: Request) -> Selection:
    """Choose the frames that together saw best what the chunk's cameras will see."""
    return _covering("overlap", memory, request, recent_share=0.0)


def hybrid(memory: MemoryBank, request: Request) -> Selection:
    """Choose recent frames for the motion, and those that saw what comes into view."""
    return _covering("hybrid", memory, request, recent_share=RECENT_SHARE)


POLICIES: dict[str, Policy] = {"recent": recent, "overlap": overlap, "hybrid": hybrid}


def recency(memory: MemoryBank, request: Request) -> Scores:
    """Return a score that fades with a frame's age at the chunk's begin, float32 [N]."""
    age = np.maximum(request.times[0] - memory.times, 0.0)
    return (1 / (1 + age / RECENCY_SECONDS)).astype(np.float32)


def _covering(
    policy: str, memory: MemoryBank, request: Request, *, recent_share: float
) -> Selection:
    """Give a share of the slots to the newest frames, the others to what covers the view."""
    everything = memory.recent(request.count, request.multiple)
    points = target_points(request.poses, request.fov_x, request.aspect)
    quality = view_quality(memory.poses, points, request.fov_x, request.aspect)
    quality *= np.where(memory.observed, 1.0, IMAGINED_WORTH).astype(np.float32)[:, None]
    newest = recency(memory, request)
    scores = {"recent": newest, "overlap": quality.mean(1)}
    total = (recent_share * newest + scores["overlap"]).astype(np.float32)
    chosen = np.zeros(len(memory), dtype=np.bool_)
    if len(memory) <= len(everything) + request.multiple:
        chosen[everything] = True
    else:
        kept = int(len(everything) * recent_share) // request.multiple * request.multiple
        chosen[len(memory) - kept :] = True
        run = max(request.multiple, RUN_FRAMES // request.multiple * request.multiple)
        slots = len(everything) - kept
        starts = cover(
            quality,
            covered=quality[chosen].max(0, initial=0),
            allowed=_clips(memory.times, chosen, run),
            preference=1 + _NEWER_GAIN * newest[: len(memory) - run + 1],
            run=run,
            count=slots,
            least_gain=_LEAST_GAIN,
        )
        for start in starts:
            chosen[start : start + run] = True
        _fill(chosen, len(everything))
    return Selection(policy=policy, indices=np.flatnonzero(chosen), scores=scores, total=total)


def _clips(times: npt.NDArray[np.float64], taken: npt.NDArray[np.bool_], run: int) -> Mask:
    """Return where ``run`` untaken frames without a gap in time may begin, [N - run + 1]."""
    breaks = np.concatenate([[0], np.cumsum(np.diff(times) > _LARGEST_STEP)])
    before = np.concatenate([[0], np.cumsum(taken)])
    return (breaks[run - 1 :] == breaks[: len(times) - run + 1]) & (before[run:] == before[:-run])


def _fill(chosen: npt.NDArray[np.bool_], count: int) -> None:
    """Choose the newest of the others until there are ``count``."""
    missing = count - int(chosen.sum())
    if missing > 0:
        chosen[np.flatnonzero(~chosen)[-missing:]] = True
