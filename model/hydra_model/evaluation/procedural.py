# SPDX-License-Identifier: Apache-2.0
"""Evaluate predictors on held-out procedural worlds, side by side on the same worlds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from hydra_model.config import ModelConfig
from hydra_model.evaluation.ablations import (
    attend_to_everything,
    choose_memory,
    keys_per_query,
)
from hydra_model.evaluation.predictors import (
    LastFrameRepeated,
    LoadedModel,
    ModelPredictor,
    OverlapPredictor,
    Panorama,
    Predictor,
)
from hydra_model.evaluation.scores import (
    Record,
    extrapolation_records,
    summarise,
    world_records,
)
from hydra_model.evaluation.worlds import EVALUATION_SEEDS_START, WorldBatch, make_batches
from hydra_model.procedural.cores import Core
from hydra_model.sampler_presets import sampler_preset

TRUTH = "truth"
AUTOENCODER = "autoencoder alone"
EXTRAPOLATION = "straight continuation of true positions"
# Six latent frames, not five: memory is made of pairs, and of five the newest would be lost.
NO_MEMORY_LATENTS = 6


@dataclass
class Evaluation:
    """Result of a run: per predictor a summary and a record per world, and the shown worlds.

    ``pictures`` maps "context", "truth" and predictors' names to uint8 [N, T, H, W, 3] of the
    first N worlds. ``seconds`` counts rendering and each predictor's time over all worlds,
    ``keys`` how many keys a token of the target attends to.
    """

    seeds: list[int]
    summaries: dict[str, Record]
    records: dict[str, list[Record]]
    pictures: dict[str, NDArray[np.uint8]]
    seconds: dict[str, float] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)


def evaluation_seeds(count: int, start: int = EVALUATION_SEEDS_START) -> list[int]:
    """Return the seeds of ``count`` held-out worlds."""
    if count < 1:
        raise ValueError(f"worlds is {count}; accepted is 1 or more")
    if start < EVALUATION_SEEDS_START:
        raise ValueError(
            f"first seed is {start}; accepted are {EVALUATION_SEEDS_START} and above, "
            "for worlds below may have been trained on"
        )
    return list(range(start, start + count))


def model_predictors(
    model: LoadedModel, steps: Sequence[int], presets: Sequence[str] = ()
) -> list[Predictor]:
    """Return the usual comparison: copies, no memory, the model per step count and preset.

    No memory and the other kinds of attention run at the model's own number of steps, and so
    does the model, whatever ``steps`` are.
    """
    own = model.config.sampler.steps
    steps = sorted({*steps, own})
    keys = keys_per_query(model.config)
    all_memory = model.config.context_latents // model.config.transformer.memory_stride[0]
    predictors: list[Predictor] = [
        LastFrameRepeated(),
        Panorama(model.config.video.fov_x),
        ModelPredictor(
            no_memory(own), model, own, NO_MEMORY_LATENTS,
            keys=keys_per_query(
                dataclasses.replace(model.config, context_latents=NO_MEMORY_LATENTS)
            ),
        ),
    ]  # fmt: skip
    predictors += [ModelPredictor(ModelPredictor.name_for(n), model, n, keys=keys) for n in steps]
    for name in presets:
        sampler = sampler_preset(name, model.config.sampler)
        predictors.append(
            ModelPredictor(
                f"model, preset {name}", model, sampler.steps, sampler=sampler, keys=keys
            )
        )
    if model.config.transformer.top_k < all_memory:
        whole = model.with_top_k(all_memory)
        more = keys_per_query(model.config, top_k=all_memory)
        predictors.append(ModelPredictor(f"all memory frames, {own} steps", whole, own, keys=more))
    if model.config.transformer.memory_source == "context":
        top_k = model.config.transformer.top_k
        every = model.with_top_k(top_k)
        attend_to_everything(every.transformer)
        most = keys_per_query(model.config, dense=True)
        predictors.append(ModelPredictor(dense(own), every, own, keys=most))
        by_view = model.with_top_k(top_k)
        chosen = choose_memory(by_view.transformer)
        name = f"retrieval by overlap, {own} steps"
        predictors.append(
            OverlapPredictor(name, ModelPredictor(name, by_view, own, keys=keys), chosen)
        )
    return predictors


def no_memory(steps: int) -> str:
    """Return the name of the row without memory."""
    return f"no memory ({NO_MEMORY_LATENTS} latents), {steps} steps"


def dense(steps: int) -> str:
    """Return the name of the row that attends to everything."""
    return f"dense attention, {steps} steps"


def evaluate(
    seeds: Sequence[int],
    config: ModelConfig,
    predictors: Sequence[Predictor],
    *,
    model: LoadedModel | None = None,
    batch: int = 16,
    device: torch.device | str = "cpu",
    family: str | None = None,
    style: str | None = None,
    core: Core | None = None,
    shown: int = 8,
    on_batch: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Render the worlds of ``seeds`` and score every predictor on each of them.

    ``model`` adds the row of the autoencoder alone. The rows "truth" (calibration of the
    measures: a hit rate of 1 is not reachable) and straight continuation are always there.
    ``on_batch(done, total)`` is called after each batch.
    """
    records: dict[str, list[Record]] = {}
    pictures: dict[str, list[NDArray[np.uint8]]] = {}
    seconds: dict[str, float] = {}
    done = 0
    clock = _Clock(device, seconds)
    batches = make_batches(
        seeds, config, batch=batch, device=device, family=family, style=style, core=core
    )
    while True:
        with clock("worlds and their truth"):
            worlds = next(batches, None)
        if worlds is None:
            break
        show = min(max(shown - done, 0), len(worlds.seeds))
        _keep(pictures, "context", worlds.frames[:, : worlds.context], show)
        _keep(pictures, TRUTH, worlds.truth, show)

        def score(name: str, frames: torch.Tensor, worlds: WorldBatch = worlds) -> None:
            with clock("measures"):
                records.setdefault(name, []).extend(world_records(frames, worlds))

        score(TRUTH, worlds.truth)
        if model is not None:
            with clock(AUTOENCODER), torch.inference_mode():
                frames = model.reconstruct(worlds.truth)
            score(AUTOENCODER, frames)
        records.setdefault(EXTRAPOLATION, []).extend(extrapolation_records(worlds))
        for predictor in predictors:
            with clock(predictor.name):
                frames = predictor.predict(
                    worlds.frames[:, : worlds.context],
                    worlds.poses[:, : worlds.context],
                    worlds.poses[:, worlds.context :],
                    worlds.seeds,
                )
            score(predictor.name, frames)
            _keep(pictures, predictor.name, frames, show)
        done += len(worlds.seeds)
        if on_batch is not None:
            on_batch(done, len(seeds))
    return Evaluation(
        seeds=list(seeds),
        summaries={name: summarise(found) for name, found in records.items()},
        records=records,
        pictures={name: np.concatenate(parts) for name, parts in pictures.items()},
        seconds={name: round(value, 2) for name, value in seconds.items()},
        keys={p.name: k for p in predictors if (k := getattr(p, "keys", None)) is not None},
    )


def _keep(
    pictures: dict[str, list[NDArray[np.uint8]]], name: str, frames: torch.Tensor, count: int
) -> None:
    if count:
        pictures.setdefault(name, []).append(frames[:count].cpu().numpy())


class _Clock:
    """Adds up the seconds spent under each name; waits for the GPU at both ends."""

    def __init__(self, device: torch.device | str, seconds: dict[str, float]) -> None:
        self.cuda = torch.device(device).type == "cuda"
        self.seconds = seconds
        self.name, self.began = "", 0.0

    def __call__(self, name: str) -> _Clock:
        self.name = name
        return self

    def __enter__(self) -> None:
        self._wait()
        self.began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._wait()
        spent = time.perf_counter() - self.began
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + spent

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()
