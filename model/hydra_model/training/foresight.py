# SPDX-License-Identifier: Apache-2.0
"""Train foresight: to see who is where in single latent frames, and to foresee where they walk.

The first network learns from rendered worlds. The second needs far more subjects than can be
rendered: most tracks that it learns from are those that the first one finds (the last ones are kept
and shown again), with what the transformer's scene flow makes of them; some are drawn without
pictures. These are true positions that err as the first network is found to err, in frames where
some point of the subject is in sight.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import ModelConfig
from hydra_model.foresight import Foresight, Mixture, Told, tell
from hydra_model.procedural.cores import Core
from hydra_model.procedural.motion import PLAIN
from hydra_model.spotting import Cameras, Spots
from hydra_model.training import state as run_state
from hydra_model.training.data import MixedStream, on_plain
from hydra_model.training.distributed import Process, agree, average_gradients, least
from hydra_model.training.layouts import Layout, draw_layout
from hydra_model.training.seeing import found_walks, see, seeing
from hydra_model.training.walks import (
    BACK,
    NEVER_LEFT,
    Errors,
    Walks,
    draw_walks,
    errors_of,
    join_walks,
)
from hydra_model.transformer import Transformer
from hydra_model.typed_values import check

FIRST_DRAWN = 500_000_000  # seed of tracks without pictures; no run renders as many worlds
_HIT = 0.12  # radians


@dataclass(frozen=True, kw_only=True)
class ForesightTraining:
    """How foresight is trained.

    So many ``subjects`` are followed. ``worlds`` are rendered per process and step, for the network
    that sees subjects (``see_rate`` is AdamW's). For each of its steps the one that foresees
    (``foresee_rate``) makes ``updates``, each of ``tracks``: a ``drawn_share`` of ``drawn`` ones,
    the others of the last ``kept`` that were found in pictures. It begins after ``see_first``
    steps.
    ``unseen_weight`` is the weight of target frames that do not show the subject, where one that
    comes back weighs 1. ``context_noise`` is the largest deviation of noise on latents.
    """

    subjects: int = 3
    worlds: int = 64
    tracks: int = 2048
    updates: int = 2
    kept: int = 8192
    drawn: int = 400_000
    drawn_share: float = 0.25
    see_first: int = 100
    see_rate: float = 1.5e-3
    foresee_rate: float = 1e-3
    weight_decay: float = 0.02
    unseen_weight: float = 0.1
    plain_share: float = 0.2
    context_noise: float = 0.2
    falling_share: float = 0.5
    average_decay: float = 0.998
    seed: int = 0
    first_step: int = 0

    def __post_init__(self) -> None:
        check(self, "1 or more", "subjects", "worlds", "tracks", "updates", "kept", "drawn")
        check(
            self, "0 or more",
            "see_first", "see_rate", "foresee_rate", "weight_decay", "unseen_weight",
            "context_noise", "first_step",
        )  # fmt: skip
        check(self, "0 to 1", "plain_share", "falling_share", "drawn_share")
        check(self, "0 or more and below 1", "average_decay")


def draw_many(config: ModelConfig, training: ForesightTraining, process: Process) -> Walks:
    """Draw the tracks without pictures of a process, on its device."""
    parts: list[Walks] = []
    worlds = min(2048, training.drawn)
    first = FIRST_DRAWN + 10 * training.drawn * process.rank
    while sum(len(part) for part in parts) < training.drawn:
        number = len(parts)
        layout = whole_layout(number, training.seed + 1, config)
        seeds = torch.arange(first, first + worlds, device=process.device)
        style = PLAIN if on_plain(number, training.plain_share)[0] else config.world_style
        parts.append(draw_walks(config, seeds, layout, style))
        first += worlds
    return join_walks(parts)[: training.drawn]


def whole_layout(number: int, seed: int, config: ModelConfig) -> Layout:
    """Return a layout whose context and target are as long as they can be."""
    chunk = config.chunk_latents
    while True:
        layout = draw_layout(number, seed, chunk, config.video.fps)
        if layout.context_latents == layout.target_latents == chunk:
            return layout
        number += 1_000_003


def told_of(walks: Walks, generator: torch.Generator | None = None) -> Told:
    """Tell of tracks; in training some now and then miss a frame.

    Half of those that have no hints (which know left from right) are mirrored then.
    """
    seen, mirrored = walks.seen, None
    if generator is not None:
        count = len(walks)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=seen.device)

        mirrored = (uniform(count) < 0.5) & ~walks.leads
        kept = seen & (uniform(*seen.shape) >= 0.1 * uniform(count, 1))
        seen = torch.where(kept.any(1, keepdim=True), kept, seen)
    return tell(
        walks.place, walks.error, seen, walks.times, walks.cameras, walks.led, walks.hints,
        walks.leads, mirrored,
    )  # fmt: skip


def foreseeing_loss(mixture: Mixture, told: Told, walks: Walks, unseen_weight: float) -> Tensor:
    """Return the mean negative logarithm of the likelihood of where subjects will be."""
    weights = walks.place.new_tensor([unseen_weight, 1.0, 0.6, 0.3])[walks.kind]
    likely = mixture.log_density(told.local(walks.then))
    return -(likely * weights).sum() / weights.sum().clamp(min=1e-6)


@torch.no_grad()
def told_hits(foresight: Foresight, walks: Walks, fov_x: float) -> Tensor:
    """Return hits of subjects that came back and how many, and of those that never left: [4]."""
    told = told_of(walks)
    mixture = foresight.foresee(told, walks.then_cameras, walks.then_times)
    reach = torch.full_like(walks.then_times, 0.45 * fov_x)
    place, _ = mixture.best(told, walks.then_cameras, reach, foresight.seen_from)
    place = told.world(place)
    hit = errors_of(place, walks.then, walks.then_camera)[..., 0].abs() < _HIT
    counts = []
    for kind in (BACK, NEVER_LEFT):
        own = walks.kind == kind
        counts += [(hit & own).sum(), own.sum()]
    return torch.stack(counts).float()


class _Kept:
    """The last tracks that were found in pictures."""

    def __init__(self, size: int) -> None:
        self.size, self.count, self.next = size, 0, 0
        self.walks: Walks | None = None

    def add(self, walks: Walks) -> None:
        walks = walks[-self.size :]
        if self.walks is None:
            self.walks = walks.map(lambda x: x.new_zeros(self.size, *x.shape[1:]))
        place = self.next + torch.arange(len(walks), device=walks.place.device)
        for own, new in zip(vars(self.walks).values(), vars(walks).values(), strict=True):
            own[place % self.size] = new
        self.next = (self.next + len(walks)) % self.size
        self.count = min(self.size, self.count + len(walks))

    def some(self, count: int, generator: torch.Generator) -> Walks:
        assert self.walks is not None
        device = self.walks.place.device
        return self.walks[torch.randint(self.count, (count,), generator=generator, device=device)]

    def state_dict(self) -> dict[str, Any]:
        walks = None if self.walks is None else dict(vars(self.walks))
        return {"walks": walks, "count": self.count, "next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        walks = state["walks"]
        self.walks = None if walks is None else Walks(**walks)
        self.count, self.next = state["count"], state["next"]


def train_foresight(
    config: ModelConfig,
    training: ForesightTraining,
    autoencoder: Autoencoder,
    transformer: Transformer,
    process: Process,
    *,
    folder: Path,
    seconds: float,
    total_seconds: float,
    total_steps: int | None = None,
    leg_steps: int | None = None,
    core: Core | None = None,
    compiled: bool = True,
    begin: dict[str, Tensor] | None = None,
    log: Callable[[str], None] = print,
    record: Callable[[dict[str, float]], None] = lambda values: None,
) -> tuple[dict[str, Tensor], int]:
    """Train for ``seconds`` of a run that is planned for ``total_seconds``; resume from ``folder``.

    ``transformer`` is the one whose scene flow the foresight is told of; it stays as it is. The
    rates fall with the run's progress, in training seconds or, with ``total_steps``, in steps: then
    nothing depends on a clock, and a run that was stopped (by ``leg_steps``) and resumed equals an
    unbroken one. ``begin`` are weights to begin with. ``record`` gets the numbers of every 100
    steps. Returns averaged weights and steps.
    """
    device = process.device
    torch.manual_seed(training.seed)
    model = Foresight(config.transformer).to(device)
    if begin is not None:
        model.load_state_dict(begin)
    parts = (model.spot, model.foresee)
    rates = (training.see_rate, training.foresee_rate)
    rules = [
        torch.optim.AdamW(
            part.parameters(), lr=rate, weight_decay=training.weight_decay, betas=(0.9, 0.98),
            fused=device.type == "cuda",
        )
        for part, rate in zip(parts, rates, strict=True)
    ]  # fmt: skip
    average = run_state.Average(model, training.average_decay)
    errors, kept = Errors(device), _Kept(training.kept)
    path = folder / "foresight.run"
    step, spent = 0, 0.0
    if (saved := run_state.load_run(path, device)) is not None:
        model.load_state_dict(saved["model"])
        for rule, values in zip(rules, saved["optimizers"], strict=True):
            rule.load_state_dict(values)
        average.load_state_dict(saved["average"])
        kept.load_state_dict(saved["kept"])
        errors.values, errors.weight = saved["errors"], saved["error_weight"]
        step, spent = saved["step"], saved["spent"]
    clock = time.monotonic()
    drawn = draw_many(config, training, process)
    log(f"foresight: {len(drawn)} tracks drawn in {time.monotonic() - clock:.0f} s")
    stream = MixedStream(
        training.worlds, process, style=config.world_style, plain_share=training.plain_share
    )
    foresee = torch.compile(model.foresee, dynamic=False) if compiled else model.foresee
    generator = torch.Generator(device)
    chunk, features = config.chunk_latents, config.transformer.dim
    began, first, elapsed = time.monotonic(), step, 0.0
    totals, counted, ready = torch.zeros(9, device=device), 0, False

    def numbers(below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=generator, device=device)

    def noisy(latents: Tensor) -> Tensor:
        noise = torch.randn(latents.shape, generator=generator, device=device)
        amount = torch.rand(len(noise), generator=generator, device=device) * 2 - 1
        amount = amount.clamp(min=0) * training.context_noise
        return latents + amount.view(-1, 1, 1, 1, 1) * noise

    def update(part: int, loss: Tensor) -> None:
        rules[part].zero_grad(set_to_none=True)
        loss.backward()
        own = list(parts[part].parameters())
        average_gradients(own, process)
        nn.utils.clip_grad_norm_(own, 1.0)
        rules[part].step()

    def foresee_some(walks: Walks, ask: Callable[[Told, Cameras, Tensor], Mixture]) -> Tensor:
        told = told_of(walks, generator)
        mixture = ask(told, walks.then_cameras, walks.then_times)
        loss = foreseeing_loss(mixture, told, walks, training.unseen_weight)
        update(1, loss)
        return loss.detach()

    while (total_steps is None or step < total_steps) and (
        leg_steps is None or step - first < leg_steps
    ):
        if total_steps is None and (step % 10 == 0 or step == first):
            elapsed = agree(time.monotonic() - began, process)
            if elapsed > seconds or spent + elapsed > total_seconds:
                break
        progress = step / total_steps if total_steps else (spent + elapsed) / total_seconds
        scale = run_state.learning_rate_scale(
            round(progress * 10_000), 10_000, 0, training.falling_share
        ) * min(1.0, (step + 1) / 100)  # fmt: skip
        for rule, rate in zip(rules, rates, strict=True):
            rule.param_groups[0]["lr"] = rate * scale
        number = training.first_step + step
        layout = draw_layout(number, training.seed, chunk, config.video.fps)
        # Nothing of the target is rendered: it may be as long as any.
        layout = replace(layout, target_latents=chunk)
        worlds = stream.worlds(number)
        drawing = number * process.ranks + process.rank
        generator.manual_seed(drawing)
        torch.manual_seed(drawing)
        seen = see(config, autoencoder, transformer, layout, worlds, core, noisy)
        with torch.autocast(device.type, torch.bfloat16):
            spots = model.spot(seen.latents, seen.rays, seen.features)
        saw = seeing(model.spot, spots, seen)
        update(0, saw.loss)
        with torch.no_grad():
            told_spots = Spots(*(x.detach() for x in spots))
            tracks = model.spot.tracks(told_spots, Cameras.of(seen.rays), seen.times, model.most)
            walks = found_walks(seen, tracks, model.patch)
        whole = layout.context_latents == chunk
        loss = totals.new_zeros(())
        if whole and len(walks):
            errors.update(walks)
            kept.add(walks)
            if step % 10 == 0:
                totals[5:] += told_hits(model, walks, config.video.fov_x)
        ready = ready or (step >= training.see_first and least(kept.count, process) > 0)
        if ready:
            if not whole and least(len(walks), process) > 0:
                foresee_some(walks, model.foresee)
            for _ in range(training.updates):
                some = round(training.tracks * training.drawn_share)
                made = errors.disturb(drawn[numbers(len(drawn), some)], generator, features)
                found = kept.some(training.tracks - some, generator)
                loss = foresee_some(join_walks([found, made]), foresee)
        average.update(model)
        step += 1
        if step == first + 1:
            began = time.monotonic()  # compiling is not training
        totals[:5] += torch.stack((saw.found, saw.right, saw.bearing, saw.distance, loss))
        counted += 1
        if process.leads and step % 100 == 0:
            values = totals.tolist()
            share, right, bearing, distance, likely = (v / counted for v in values[:5])
            record(
                {
                    "step": step, "seconds": round(spent + time.monotonic() - began, 1),
                    "found": round(share, 4), "right": round(right, 4),
                    "bearing_degrees": round(math.degrees(bearing), 3),
                    "distance": round(distance, 4), "loss": round(likely, 4),
                    "back": round(values[5] / max(1.0, values[6]), 4),
                    "never_left": round(values[7] / max(1.0, values[8]), 4),
                    "rate_scale": round(scale, 4),
                }
            )  # fmt: skip
            totals.zero_()
            counted = 0
    spent += time.monotonic() - began
    if process.leads:
        run_state.save_run(
            path, model=model.state_dict(), optimizers=[rule.state_dict() for rule in rules],
            average=average.state_dict(), kept=kept.state_dict(), errors=errors.values,
            error_weight=errors.weight, step=step, spent=spent,
        )  # fmt: skip
        log(f"foresight: {step - first} steps in {time.monotonic() - began:.0f} s, {step} in all")
    return average.weights, step
