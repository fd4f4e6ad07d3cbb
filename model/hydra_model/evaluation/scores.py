# SPDX-License-Identifier: Apache-2.0
"""One predictor's scores: gathered batch by batch, summed up in the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hydra_model.evaluation import metrics
from hydra_model.evaluation.events import STAYED_SPANS, Event
from hydra_model.evaluation.reference_motion import extrapolated_hits
from hydra_model.evaluation.subjects import SubjectScores, score_subjects
from hydra_model.evaluation.worlds import WorldBatch
from hydra_model.procedural.motion import MOTION_NAMES
from hydra_model.procedural.trajectories import FAMILIES

REVISIT_PIXELS = 100  # sampled pixels that a world must show again to have a revisit figure
SUBJECT_MARGIN = 2  # pixels around a subject that belong to its PSNR
PICTURE_MEASURES = ("psnr", "ssim", "background", "background_at_revisits", "subject")

Record = dict[str, Any]


def world_records(prediction: Tensor, batch: WorldBatch) -> list[Record]:
    """Score predicted frames uint8 [B, Tt, H, W, 3] and return one plain record per world.

    Picture measures are in dB, mean over frames; ``background_at_revisits`` pools its pixels. What
    a world has nothing of is None. ``events`` and ``in_view`` hold the subjects' hits.
    """
    background = batch.target_ids == 0
    subject = metrics.dilate(~background, SUBJECT_MARGIN)
    revisits = metrics.squared_error(
        prediction[:, batch.revisit_frames], batch.truth[:, batch.revisit_frames]
    )
    counts = batch.revisit_mask.sum((1, 2, 3))
    pooled = (revisits * batch.revisit_mask).sum((1, 2, 3)) / counts.clamp(min=1)
    at_revisits = torch.where(counts >= REVISIT_PIXELS, metrics.decibels(pooled), torch.nan)
    values = {
        "psnr": metrics.psnr(prediction, batch.truth).mean(1),
        "ssim": metrics.ssim(prediction, batch.truth).mean(1),
        "background": metrics.masked_psnr(prediction, batch.truth, background).nanmean(1),
        "background_at_revisits": at_revisits,
        "subject": metrics.masked_psnr(prediction, batch.truth, subject).nanmean(1),
    }
    columns = {name: _plain(value) for name, value in values.items()}
    records = [
        {
            "seed": seed,
            "family": FAMILIES[int(family)],
            **{name: column[i] for name, column in columns.items()},
        }
        for i, (seed, family) in enumerate(zip(batch.seeds, batch.families, strict=True))
    ]
    _add_subjects(records, score_subjects(prediction, batch.subjects), batch)
    return records


def extrapolation_records(batch: WorldBatch) -> list[Record]:
    """Score a straight continuation of the true positions: subjects alone have values."""
    visible = torch.as_tensor(batch.subjects.visible, device=batch.frames.device)
    records: list[Record] = [
        {"seed": seed, "family": FAMILIES[int(f)], "events": [], "in_view": []}
        for seed, f in zip(batch.seeds, batch.families, strict=True)
    ]
    kinds = batch.scenes.motion.kind.tolist()

    def hits(of: Event) -> Record:
        found = extrapolated_hits(
            of, batch.scenes, batch.poses, batch.times, visible, batch.context, batch.camera
        )
        return {"motion": MOTION_NAMES[kinds[of.world][of.subject]], "hits": found}

    for event in batch.subjects.events:
        records[event.world]["events"].append({"unseen": event.unseen, **hits(event)})
    for world, subject in np.argwhere(batch.subjects.stayed.any(-1)).tolist():
        stayed = batch.subjects.stayed[world, subject]
        shown = tuple(np.flatnonzero(stayed).tolist())
        records[world]["in_view"].append(
            {
                **hits(Event(world, subject, 0.0, shown)),
                "whole": bool(stayed.all()),
                "times": [_time(frame, batch) for frame in shown],
                "wrong_colour": [],
            }
        )
    return records


def _add_subjects(records: list[Record], scores: SubjectScores, batch: WorldBatch) -> None:
    truth = batch.subjects
    keys = zip(truth.world.tolist(), truth.subject.tolist(), truth.frame.tolist(), strict=True)
    items = {key: i for i, key in enumerate(keys)}
    kinds = batch.scenes.motion.kind.tolist()

    def add(record: Record, group: str, chosen: list[int], **more: object) -> None:
        record[group].append(
            {
                **more,
                "hits": scores.hit[chosen].tolist(),
                "found": scores.found[chosen].tolist(),
                "distance": [round(float(d), 1) for d in scores.distance[chosen]],
                "wrong_colour": scores.wrong_colour[chosen].tolist(),
            }
        )

    for record in records:
        record["events"], record["in_view"] = [], []
    for event in truth.events:
        chosen = [items[k] for f in event.frames if (k := (event.world, event.subject, f)) in items]
        if chosen:
            motion = MOTION_NAMES[kinds[event.world][event.subject]]
            add(records[event.world], "events", chosen, motion=motion, unseen=event.unseen)
    for world, record in enumerate(records):
        for subject in range(truth.stayed.shape[1]):
            stayed = np.flatnonzero(truth.stayed[world, subject])
            shown = [f for f in stayed.tolist() if (world, subject, f) in items]
            if shown:
                motion = MOTION_NAMES[kinds[world][subject]]
                whole = bool(truth.stayed[world, subject].all())
                chosen = [items[world, subject, f] for f in shown]
                times = [_time(f, batch) for f in shown]
                add(record, "in_view", chosen, motion=motion, whole=whole, times=times)


def _time(frame: int, batch: WorldBatch) -> float:
    """Seconds from the last context frame to a target frame."""
    return round((frame + 1) / batch.fps, 4)


def summarise(records: list[Record]) -> Record:
    """Sum up the records of all worlds, and of each camera family by itself."""
    summary = _summarise(records)
    families = sorted({r["family"] for r in records}, key=FAMILIES.index)
    summary["families"] = {
        family: _summarise([r for r in records if r["family"] == family]) for family in families
    }
    return summary


def _summarise(records: list[Record]) -> Record:
    summary: Record = {"worlds": len(records)}
    for name in PICTURE_MEASURES:
        summary[name] = _mean(r.get(name) for r in records)
    summary["worlds_with_revisits"] = sum(
        r.get("background_at_revisits") is not None for r in records
    )
    events = [event for r in records for event in r["events"]]
    summary["reentry"] = _reentry(events)
    summary["reentry_by_motion"] = {
        motion: _reentry([e for e in events if e["motion"] == motion]) for motion in MOTION_NAMES
    }
    summary["never_left"] = _never_left([s for r in records for s in r["in_view"]])
    return summary


def _reentry(events: list[Record]) -> Record:
    def frames(name: str, keep: Callable[[Record, int], bool] = lambda e, i: True) -> list[Any]:
        return [v for e in events if name in e for i, v in enumerate(e[name]) if keep(e, i)]

    return {
        "events": len(events),
        "frames": len(frames("hits")),
        "hit_frames": _mean(frames("hits")),
        "hit_events": _mean(np.mean(e["hits"]) >= 0.5 for e in events),
        "found_frames": _mean(frames("found")),
        "distance_where_found": _mean(frames("distance", lambda e, i: bool(e["found"][i]))),
        "wrong_colour_frames": _mean(frames("wrong_colour")),
    }


def _never_left(subjects: list[Record]) -> Record:
    spans = {
        name: _mean(
            hit
            for s in subjects
            for hit, time in zip(s["hits"], s["times"], strict=True)
            if low < time <= high
        )
        for name, (low, high) in STAYED_SPANS.items()
    }
    whole = [hit for s in subjects if s["whole"] for hit in s["hits"]]
    return {
        "subjects": len(subjects),
        "hit_by_time": spans,
        "whole_chunk_subjects": sum(s["whole"] for s in subjects),
        "hit_whole_chunk": _mean(whole),
        "wrong_colour_frames": _mean(w for s in subjects for w in s["wrong_colour"]),
    }


def _plain(values: Tensor) -> list[float | None]:
    return [None if math.isnan(v) else round(v, 4) for v in values.double().cpu().tolist()]


def _mean(values: Iterable[Any]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return round(sum(known) / len(known), 4) if known else None
