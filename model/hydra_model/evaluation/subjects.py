# SPDX-License-Identifier: Apache-2.0
"""Whether predicted frames show each subject where it truly is, and in its own colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hydra_model.evaluation import locate
from hydra_model.evaluation.events import Event, find_events, minimum_pixels, stayed_in_view
from hydra_model.evaluation.metrics import dilate

HIT_SHARE = 0.10  # of the image width, between the found and the true place
_AT_ONCE = 512  # pictures of one subject that are searched together


@dataclass(frozen=True)
class SubjectTruth:
    """What is true of the subjects in a batch of worlds; made once, used for every prediction.

    An item is one target frame in which a subject is visible that the context has shown:
    ``world``, ``subject`` (from 0) and ``frame``, int64 [N]. ``hue`` float32 [N] in turns,
    ``place`` is where the subject's colour truly gathers, its ``pixels`` how many it shows;
    ``box_width`` and ``box_height`` [N] are the size of the visible part in pixels.
    ``ids`` uint8 [B, Tt, H, W] are the target's.
    """

    world: Tensor
    subject: Tensor
    frame: Tensor
    hue: Tensor
    place: locate.Place
    box_width: Tensor
    box_height: Tensor
    ids: Tensor
    visible: NDArray[np.bool_]  # [B, S, context + target]
    stayed: NDArray[np.bool_]  # [B, S, Tt]
    events: list[Event]


@dataclass(frozen=True)
class SubjectScores:
    """Per item, [N]: a hit, found anywhere, pixels from the true place, another's colour there."""

    hit: NDArray[np.bool_]
    found: NDArray[np.bool_]
    distance: NDArray[np.float32]
    wrong_colour: NDArray[np.bool_]


def visible_subjects(ids: Tensor, subjects: int) -> NDArray[np.bool_]:
    """Return bool [B, S, T]: subject 1..S shows enough pixels in ids uint8 [B, T, H, W]."""
    least = minimum_pixels(*ids.shape[-2:])
    counts = torch.stack([(ids == s + 1).sum((-2, -1)) for s in range(subjects)], 1)
    return (counts >= least).cpu().numpy()


def subject_truth(
    frames: Tensor, ids: Tensor, *, context_frames: int, subjects: int, fps: float
) -> SubjectTruth:
    """Measure true frames uint8 [B, T, H, W, 3] and subject ids uint8 [B, T, H, W].

    Both hold the context and then the target. ``subjects`` is the largest id that may occur.
    """
    visible = visible_subjects(ids, subjects)
    hues = torch.stack([_hues(frames, ids, s) for s in range(subjects)], 1)  # [B, S]
    target = visible[..., context_frames:]
    known = visible[..., :context_frames].any(-1) & ~hues.isnan().cpu().numpy()
    where = np.nonzero(target & known[..., None])
    world, subject, frame = (torch.as_tensor(index, device=ids.device) for index in where)

    target_ids = ids[:, context_frames:]
    target_frames = frames[:, context_frames:]
    hue = hues[world, subject]
    parts = []
    for at in _pieces(len(world)):
        w, s, f = world[at], subject[at], frame[at]
        own = target_ids[w, f] == (s + 1)[:, None, None].to(ids.dtype)
        match = _matches(target_frames[w, f], hue[at]) & dilate(own, 1)
        parts.append((*_centroid(match, own), *locate.box_sizes(own)))
    empty = torch.zeros(0, device=ids.device)
    columns = [torch.cat(part) for part in zip(*parts, strict=True)] if parts else [empty] * 5
    return SubjectTruth(
        world=world,
        subject=subject,
        frame=frame,
        hue=hue,
        place=locate.Place(*columns[:3]),
        box_width=columns[3],
        box_height=columns[4],
        ids=target_ids,
        visible=visible,
        stayed=stayed_in_view(visible, context_frames),
        events=find_events(visible, context_frames, fps),
    )


def score_subjects(prediction: Tensor, truth: SubjectTruth) -> SubjectScores:
    """Look for every item's subject in predicted frames uint8 [B, Tt, H, W, 3].

    Found: where the subject's colour gathers most in the whole frame, at least a quarter of
    the pixels that it truly shows. Hit: found within ``HIT_SHARE`` of the width of its true place.
    So a second copy elsewhere counts only if it is the weaker one. Wrong colour: at the true
    place more pixels are as colourful as a subject in another hue than in its own.
    """
    if prediction.shape[:-1] != truth.ids.shape:
        raise ValueError(
            f"prediction is {tuple(prediction.shape)}; accepted is {(*truth.ids.shape, 3)}"
        )
    parts: list[tuple[Tensor, ...]] = []
    for at in _pieces(len(truth.world)):
        parts.append(_score_items(prediction, truth, at))
    if not parts:
        nothing = np.zeros(0, dtype=bool)
        return SubjectScores(nothing, nothing, np.zeros(0, dtype=np.float32), nothing)
    hit, found, distance, wrong = (torch.cat(p).cpu().numpy() for p in zip(*parts, strict=True))
    return SubjectScores(hit, found, distance, wrong)


def _score_items(prediction: Tensor, truth: SubjectTruth, at: slice) -> tuple[Tensor, ...]:
    world, frame = truth.world[at], truth.frame[at]
    pictures = prediction[world, frame]
    size = truth.box_width[at], truth.box_height[at]
    true_place = locate.Place(*(value[at] for value in truth.place))
    hue, saturation, chroma = locate.hue_and_saturation(pictures)
    colourful = locate.colourful(saturation, chroma)
    distance = locate.hue_distance(hue, truth.hue[at][:, None, None])
    own = colourful & (distance <= locate.HUE_TOLERANCE)

    place = locate.densest(own, *size)
    needed = (locate.FOUND_SHARE * true_place.pixels).clamp(min=locate.FOUND_PIXELS)
    found = place.pixels >= needed
    offset = torch.hypot(place.x - true_place.x, place.y - true_place.y)
    hit = found & (offset <= HIT_SHARE * prediction.shape[-2])

    ids = truth.ids[world, frame]
    others = (ids > 0) & (ids != (truth.subject[at] + 1)[:, None, None].to(ids.dtype))
    foreign = colourful & ~own & ~dilate(others, 3)
    foreign_count = locate.gathered(foreign, *size, at=true_place)
    own_count = locate.gathered(own, *size, at=true_place)
    wrong = (foreign_count > own_count) & (foreign_count >= needed)
    return hit, found, offset, wrong


def _pieces(count: int) -> list[slice]:
    return [slice(start, start + _AT_ONCE) for start in range(0, count, _AT_ONCE)]


def _hues(frames: Tensor, ids: Tensor, subject: int) -> Tensor:
    # World by world: a float copy of all frames of a batch would be large.
    own = ids == subject + 1
    return torch.cat([locate.own_hue(f[None], m[None]) for f, m in zip(frames, own, strict=True)])


def _matches(pictures: Tensor, hue: Tensor) -> Tensor:
    found, saturation, chroma = locate.hue_and_saturation(pictures)
    near = locate.hue_distance(found, hue[:, None, None]) <= locate.HUE_TOLERANCE
    return near & locate.colourful(saturation, chroma)


def _centroid(match: Tensor, mask: Tensor) -> locate.Place:
    """Centroid of ``match`` [N, H, W]; of ``mask`` where too few pixels match."""
    count = match.sum((1, 2))
    weight = torch.where((count >= locate.FOUND_PIXELS)[:, None, None], match, mask).float()
    total = weight.sum((1, 2)).clamp(min=1)
    columns = torch.arange(match.shape[2], device=match.device, dtype=torch.float32)
    rows = torch.arange(match.shape[1], device=match.device, dtype=torch.float32)
    x = (weight.sum(1) * columns).sum(1) / total
    y = (weight.sum(2) * rows).sum(1) / total
    return locate.Place(x, y, count.float())
