# SPDX-License-Identifier: Apache-2.0
"""Evaluate predictors on a data set of clips with masks, such as HM-World."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hydra_model.datasets.clips import Clip, ClipSource, UnusableClip
from hydra_model.evaluation import metrics
from hydra_model.evaluation.ablations import keys_per_query
from hydra_model.evaluation.dsc import DynamicSubjectScore
from hydra_model.evaluation.perceptual import Lpips, Unavailable
from hydra_model.evaluation.predictors import (
    LastFrameRepeated,
    LoadedModel,
    ModelPredictor,
    Predictor,
)
from hydra_model.evaluation.procedural import NO_MEMORY_LATENTS, no_memory
from hydra_model.evaluation.scores import SUBJECT_MARGIN, Record

MEASURES = ("psnr", "ssim", "lpips", "background", "subject", "dsc_truth", "dsc_context")
AUTOENCODER = "autoencoder alone"


@dataclass
class ClipEvaluation:
    """Per predictor a record per clip; ``unmeasured`` says why a measure is missing.

    ``skipped`` counts clips that could not be used by reason. ``pictures`` are as in
    ``procedural.Evaluation``; ``keys`` says how many keys a token of the target attends to.
    """

    title: str
    records: dict[str, list[Record]] = field(default_factory=dict)
    pictures: dict[str, list[NDArray[np.uint8]]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    unmeasured: dict[str, str] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)

    def summary(self, name: str) -> Record:
        """Return a predictor's means; None where no clip has a value."""
        found: Record = {"clips": len(self.records[name])}
        for measure in MEASURES:
            values = [v for r in self.records[name] if (v := r.get(measure)) is not None]
            found[measure] = round(sum(values) / len(values), 4) if values else None
        return found


def clip_predictors(model: LoadedModel, steps: Sequence[int]) -> list[Predictor]:
    """Return last frame, no memory, and the model per step count, for clips with captions."""
    config = model.config
    own = config.sampler.steps
    keys = keys_per_query(config)
    predictors: list[Predictor] = [LastFrameRepeated(), AutoencoderAlone(model)]
    predictors.append(ModelPredictor(no_memory(own), model, own, NO_MEMORY_LATENTS))
    predictors += [ModelPredictor(ModelPredictor.name_for(n), model, n, keys=keys) for n in steps]
    every = config.context_latents // config.transformer.memory_stride[0]
    if config.transformer.memory_source == "context" and config.transformer.top_k < every:
        whole = model.with_top_k(every)
        more = keys_per_query(config, top_k=every)
        predictors.append(ModelPredictor(f"all memory frames, {own} steps", whole, own, keys=more))
    return predictors


@dataclass
class AutoencoderAlone:
    """The true frames, encoded and decoded: it is shown the truth by ``evaluate_clips``."""

    model: LoadedModel
    name: str = AUTOENCODER

    def predict(
        self,
        context_frames: Tensor,
        context_poses: Tensor,
        target_poses: Tensor,
        seeds: Sequence[int],
        captions: Sequence[str] | None = None,
    ) -> Tensor:
        raise NotImplementedError("the autoencoder alone predicts nothing")


def evaluate_clips(
    source: ClipSource,
    predictors: Sequence[Predictor],
    *,
    lpips: Lpips | Unavailable,
    dsc: DynamicSubjectScore | Unavailable,
    most: int | None = None,
    shown: int = 8,
    on_clip: Callable[[int, int], None] | None = None,
) -> ClipEvaluation:
    """Score every predictor on the first ``most`` clips; unusable ones are counted by reason.

    Clips whose number of frames or size does not suit are unusable, not errors: a long run
    does not end for one of them. Raises ``ValueError`` when none can be used.
    """
    result = ClipEvaluation(source.title)
    for name, measure in (("lpips", lpips), ("dsc", dsc)):
        if isinstance(measure, Unavailable):
            result.unmeasured[name] = measure.reason
    result.keys = {p.name: k for p in predictors if (k := getattr(p, "keys", None)) is not None}
    names = source.names()[:most]
    for index, name in enumerate(names):
        try:
            clip = source.load(index)
        except UnusableClip as error:
            result.skipped[error.reason] += 1
        else:
            result.names.append(name)
            _evaluate_clip(clip, predictors, lpips, dsc, result, show=len(result.names) <= shown)
        if on_clip is not None:
            on_clip(index + 1, len(names))
    if not result.names:
        reasons = ", ".join(f"{n} {reason}" for reason, n in result.skipped.most_common())
        raise ValueError(f"none of the {len(names)} clips of {source.title} is usable: {reasons}")
    return result


def _evaluate_clip(
    clip: Clip,
    predictors: Sequence[Predictor],
    lpips: Lpips | Unavailable,
    dsc: DynamicSubjectScore | Unavailable,
    result: ClipEvaluation,
    *,
    show: bool,
) -> None:
    context, truth = (torch.from_numpy(f)[None] for f in (clip.context_frames, clip.target_frames))
    context_poses, target_poses = (
        torch.from_numpy(p)[None] for p in (clip.context_poses, clip.target_poses)
    )
    # Noise from the clip's name: a figure does not depend on which clips come before.
    seed = zlib.crc32(clip.name.encode())
    if show:
        result.pictures.setdefault("context", []).append(clip.context_frames)
        result.pictures.setdefault("truth", []).append(clip.target_frames)
    for predictor in predictors:
        began = time.perf_counter()
        if isinstance(predictor, AutoencoderAlone):
            frames = predictor.model.reconstruct(truth)
        else:
            frames = predictor.predict(
                context, context_poses, target_poses, [seed], [clip.caption or ""]
            )
        frames = frames[0].cpu()
        name = predictor.name
        spent = time.perf_counter() - began
        result.seconds[name] = result.seconds.get(name, 0.0) + spent
        record = clip_record(frames, clip, lpips, dsc)
        result.records.setdefault(name, []).append(record)
        if show:
            result.pictures.setdefault(name, []).append(frames.numpy())


def clip_record(
    frames: Tensor, clip: Clip, lpips: Lpips | Unavailable, dsc: DynamicSubjectScore | Unavailable
) -> Record:
    """Score predicted frames uint8 [T, H, W, 3] of a clip; what it has nothing of is None."""
    truth = torch.from_numpy(clip.target_frames)
    record: Record = {
        "name": clip.name,
        "psnr": _mean(metrics.psnr(frames, truth)),
        "ssim": _mean(metrics.ssim(frames, truth)),
    }
    if not isinstance(lpips, Unavailable):
        record["lpips"] = _mean(lpips(frames, truth))
    if clip.target_masks is None or clip.context_masks is None:
        return record
    masks = torch.from_numpy(clip.target_masks)
    background = masks == 0
    subject = metrics.dilate(~background, SUBJECT_MARGIN)
    record["background"] = _mean(metrics.masked_psnr(frames, truth, background))
    record["subject"] = _mean(metrics.masked_psnr(frames, truth, subject))
    record["events"] = [event._asdict() for event in clip.events()]
    if not isinstance(dsc, Unavailable):
        context = torch.from_numpy(clip.context_frames)
        found = dsc.score(frames, truth, context, masks, torch.from_numpy(clip.context_masks))
        record["dsc_truth"], record["dsc_context"] = found.truth, found.context
    return record


def _mean(values: Tensor) -> float | None:
    mean = float(values.double().nanmean())
    return None if mean != mean else round(mean, 4)
