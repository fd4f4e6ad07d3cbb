# SPDX-License-Identifier: Apache-2.0
"""Which remembered frames condition a chunk: policies behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hydra_model.config import TransformerConfig
from hydra_model.memory import MemoryBank
from hydra_model.overlap import cover, target_points, view_quality
from hydra_model.tracks import expected, find_tracks, last_view

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
RECENT_SHARE = 0.3  # of the slots of "hybrid" that go to the newest frames
RUN_FRAMES = 10  # most neighbouring frames that are taken together, as one clip of the past
SUBJECT_FRAMES = 4  # last frames of a subject that may come back
FORESIGHT_SECONDS = 90.0  # for which motion is believed to go on
IMAGINED_WORTH = 0.8  # of a view, where an observed one counts as 1
_ENOUGH = 0.95  # of what "hybrid" would choose: if the newest frames show so much, they are taken
_LEAST_GAIN = 0.01  # of the sampled points that a run must add to be worth its slots
_LARGEST_STEP = 1.0  # seconds between neighbours that still are one clip


def select(policy: str, memory: MemoryBank, request: Request) -> Selection:
    """Choose frames by a policy's name; raises ``ValueError`` where memory is too young."""
    return POLICIES[check_policy(policy)](memory, request)


def check_policy(name: str) -> str:
    """Return the name of a policy, or raise ``ValueError`` with the accepted ones."""
    if name not in POLICIES:
        raise ValueError(f"memory policy is {name!r}; accepted: {', '.join(POLICIES)}")
    return name


def default_policy(config: TransformerConfig) -> str:
    """Return the policy that suits how a model was trained.

    Weights that know positions in time were trained with old clips beside recent ones; those
    that count slots know one clip that ends where the chunk begins, and nothing else.
    """
    return "hybrid" if config.time_positions == "time" else "recent"


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
    everything = memory.recent(request.count, request.multiple)
    quality, scores = _views(memory, request)
    chosen = np.zeros(len(memory), dtype=np.bool_)
    _cover(chosen, len(everything), quality, memory, request)
    _fill(chosen, len(everything))
    return Selection(
        policy="overlap",
        indices=np.flatnonzero(chosen),
        scores=scores,
        total=scores["overlap"],
    )


def hybrid(memory: MemoryBank, request: Request) -> Selection:
    """Choose recent frames for the motion, those that saw what comes into view, and subjects.

    Where the newest frames show nearly as much as all of these, they are chosen alone.
    A subject here is what moved and is expected to be seen again, going on as it went
    (``tracks``): the frames that last saw it are chosen.
    """
    everything = memory.recent(request.count, request.multiple)
    quality, scores = _views(memory, request)
    chosen = np.zeros(len(memory), dtype=np.bool_)
    kept = _multiple(len(everything) * RECENT_SHARE, request.multiple)
    chosen[len(memory) - kept :] = True
    newest = chosen.copy()
    slots = len(everything) - kept
    _cover(chosen, slots, quality, memory, request)
    length = max(request.multiple, _multiple(SUBJECT_FRAMES, request.multiple))
    scores["subject"] = np.zeros(len(memory), dtype=np.float32)
    wanted: list[int] = []  # first frames
    missing: list[int] = []
    for view in _expected_again(memory, request):
        scores["subject"][max(0, view + 1 - length) : view + 1] = 1.0
        start = max(0, min(view + 1, len(memory) - kept) - length)
        wanted.append(start)
        # One frame shows where somebody was, only several where they were going.
        if chosen[start : view + 1].sum() < length - 1:
            missing.append(start)
    old = [start for start in wanted if start < everything[0]]
    if not old and _enough(quality, len(everything), chosen):
        chosen[:] = False  # filled with the newest: one clip without gaps
    elif missing:
        chosen = newest
        for start in missing[: slots // (2 * length)]:
            if not chosen[start : start + length].any():
                chosen[start : start + length] = True
        rest = len(everything) - int(chosen.sum())
        _cover(chosen, rest, quality, memory, request)
    _fill(chosen, len(everything))
    return Selection(
        policy="hybrid",
        indices=np.flatnonzero(chosen),
        scores=scores,
        total=RECENT_SHARE * scores["recent"] + scores["overlap"] + scores["subject"],
    )


POLICIES: dict[str, Policy] = {"recent": recent, "overlap": overlap, "hybrid": hybrid}


def recency(memory: MemoryBank, request: Request) -> Scores:
    """Return a score that fades with a frame's age at the chunk's begin, float32 [N]."""
    age = np.maximum(request.times[0] - memory.times, 0.0)
    return (1 / (1 + age / RECENCY_SECONDS)).astype(np.float32)


def _views(memory: MemoryBank, request: Request) -> tuple[Scores, dict[str, Scores]]:
    """Return how well each frame saw each sampled point [N, P], and the scores that tell."""
    points = target_points(request.poses, request.fov_x, request.aspect)
    quality = view_quality(memory.poses, points, request.fov_x, request.aspect)
    quality *= np.where(memory.observed, 1.0, IMAGINED_WORTH).astype(np.float32)[:, None]
    return quality, {"recent": recency(memory, request), "overlap": quality.mean(1)}


def _cover(
    chosen: Mask,
    slots: int,
    quality: Scores,
    memory: MemoryBank,
    request: Request,
) -> None:
    """Choose at most ``slots`` more frames that add to what the chosen ones saw.

    First clips as long as possible, then shorter ones for what only those show, and at last
    groups whatever lies between their frames: single pictures that were observed now and then.
    """
    group = request.multiple
    longest = _multiple(min(RUN_FRAMES, slots), group)
    for run, largest_step in ((longest, _LARGEST_STEP), (group, _LARGEST_STEP), (group, np.inf)):
        if not 0 < run <= min(slots, len(memory)):
            continue
        starts = cover(
            quality,
            covered=quality[chosen].max(0, initial=0),
            allowed=_clips(memory.times, chosen, run, largest_step),
            run=run,
            count=slots,
            least_gain=_LEAST_GAIN,
        )
        for start in starts:
            chosen[start : start + run] = True
        slots -= run * len(starts)


def _enough(quality: Scores, count: int, chosen: Mask) -> bool:
    """Say whether the newest frames show nearly all that the chosen ones show of the points."""
    return bool(_shown(quality[-count:]) >= _ENOUGH * _shown(quality[chosen]))


def _shown(quality: Scores) -> float:
    return float(quality.max(0, initial=0).mean())


def _expected_again(memory: MemoryBank, request: Request) -> list[int]:
    """Return the frames that last saw what may come back into view, the latest first."""
    view = (request.fov_x, request.aspect)
    sightings = memory.sightings(since=request.times[0] - FORESIGHT_SECONDS)
    views = {
        last_view(track, memory.poses, memory.times, *view)
        for track in find_tracks(sightings, memory.times)
        if expected(track, request.poses, request.times, *view)
    }
    return sorted(views, reverse=True)


def _multiple(count: float, of: int) -> int:
    return int(count) // of * of


def _clips(times: npt.NDArray[np.float64], taken: Mask, run: int, largest_step: float) -> Mask:
    """Return where ``run`` untaken frames without a gap in time may begin, [N - run + 1]."""
    breaks = np.concatenate([[0], np.cumsum(np.diff(times) > largest_step)])
    before = np.concatenate([[0], np.cumsum(taken)])
    return (breaks[run - 1 :] == breaks[: len(times) - run + 1]) & (before[run:] == before[:-run])


def _fill(chosen: npt.NDArray[np.bool_], count: int) -> None:
    """Choose the newest of the others until there are ``count``."""
    missing = count - int(chosen.sum())
    if missing > 0:
        chosen[np.flatnonzero(~chosen)[-missing:]] = True
