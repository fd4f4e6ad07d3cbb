# SPDX-License-Identifier: Apache-2.0
"""Distil a trained transformer to a few sampling steps.

The student's schedule has n noise levels; the teacher's has the same ones and several more
between each two. From one level the teacher runs to the next in its small steps, and the
student learns the one step that ends at the same place (as in progressive distillation,
Salimans and Ho 2022, and piecewise rectified flow, Yan et al. 2024). It is a regression on
fixed targets, so it can only approach its teacher, and there is no second network to balance.
Half of the starts are where the student's own earlier steps lead, so that it learns to go on
from its own errors.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import ModelConfig
from hydra_model.procedural.cores import Core
from hydra_model.sampler import schedule
from hydra_model.training import flow
from hydra_model.training import state as run_state
from hydra_model.training.data import Batch, WorldStream, procedural_batch
from hydra_model.training.distributed import Process, agree, average_gradients
from hydra_model.training.layouts import draw_layout, most_frames
from hydra_model.training.scene_flow import scene_flow_loss
from hydra_model.training.transformer import (
    TransformerTraining,
    compile_blocks,
    optimizers,
    repeat,
    use_kernels,
)
from hydra_model.transformer import Conditioning, Transformer
from hydra_model.typed_values import check


@dataclass(frozen=True, kw_only=True)
class FewStepTraining:
    """How the few-step model is distilled.

    ``steps`` of the student, each ``substeps`` of the teacher's; ``own_starts`` is the share of
    batches that start where the student's own steps lead. The other fields are as in
    ``TransformerTraining``; ``first_step`` is where the run's worlds go on.
    """

    steps: int = 4
    substeps: int = 4
    own_starts: float = 0.5
    worlds: int = 16
    draws: int = 2
    matrix_rate: float = 5e-4
    learning_rate: float = 2.5e-4
    weight_decay: float = 0.01
    subject_weight: float = 6.0
    flow_weight: float = 0.2
    context_noise: float = 0.1
    average_decay: float = 0.998
    seed: int = 1
    first_step: int = 1_000_000

    def __post_init__(self) -> None:
        check(self, "1 or more", "steps", "substeps", "worlds", "draws")
        check(
            self, "0 or more",
            "matrix_rate", "learning_rate", "weight_decay", "subject_weight", "flow_weight",
            "context_noise", "first_step",
        )  # fmt: skip
        check(self, "0 to 1", "own_starts")
        check(self, "0 or more and below 1", "average_decay")


def levels(training: FewStepTraining, shift: float) -> list[float]:
    """Return the teacher's noise shares down to 0; every ``substeps``-th is the student's."""
    return [*schedule(training.steps * training.substeps, shift).tolist(), 0.0]


def euler(model: Transformer, x: Tensor, sigmas: list[float], conditioning: Conditioning) -> Tensor:
    """Follow ``model`` from ``x`` at ``sigmas[0]`` through all of them."""
    for here, there in itertools.pairwise(sigmas):
        sigma = torch.full((len(x),), here, device=x.device)
        x = x + model(x, sigma, conditioning).float() * (there - here)
    return x


def distillation_loss(
    student: Transformer,
    teacher: Transformer,
    batch: Batch,
    training: FewStepTraining,
    shift: float,
    generator: torch.Generator,
    draw: random.Random,
) -> tuple[Tensor, Tensor]:
    """Return the loss of the student's step and its plain squared error.

    The loss is the weighted error and, where the model has a scene flow, that of the flow: what
    it is read off changes as the student learns.

    Which of the steps is learned and whence it starts comes from ``draw``, for the whole batch:
    a decision of the host, which a GPU need not be asked for.
    """
    device = batch.target.device
    fine = levels(training, shift)
    chosen = draw.randrange(training.steps)
    own = draw.random() < training.own_starts and chosen > 0
    first = chosen * training.substeps
    start, end = fine[first], fine[first + training.substeps]

    def normal(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    count = batch.context.shape[0]
    amount = torch.rand(count, generator=generator, device=device) * 2 - 1
    amount = (amount.clamp(min=0) * training.context_noise).view(-1, 1, 1, 1, 1)
    context = batch.context + amount * normal(batch.context.shape)
    latents = batch.target.repeat_interleave(training.draws, 0)
    noise = normal(latents.shape)

    def conditioned(model: Transformer, features: list[Tensor] | None = None) -> Conditioning:
        return repeat(
            model.prepare(
                context, batch.context_camera, batch.target_camera,
                context_times=batch.context_times, target_times=batch.target_times,
                detail_camera=batch.detail_camera, features=features,
            ),
            training.draws,
        )  # fmt: skip

    features: list[Tensor] = []
    with torch.autocast(device.type, torch.bfloat16):
        conditioning = conditioned(student, features)
        moving = scene_flow_loss(student, features, batch)
        with torch.no_grad():
            if own:
                x = euler(student, noise, fine[: first + 1 : training.substeps], conditioning)
            else:
                x = flow.mix(latents, noise, torch.full((len(noise),), start, device=device))
            reached = euler(
                teacher, x, fine[first : first + training.substeps + 1], conditioned(teacher)
            )
            wanted = (reached - x) / (end - start)
        prediction = student(x, torch.full((len(x),), start, device=device), conditioning)
    error = (prediction.float() - wanted).square().mean(1, keepdim=True)
    weight = 1 + (training.subject_weight - 1) * batch.subject.repeat_interleave(training.draws, 0)
    loss = flow.weighted_mean(error, weight) + training.flow_weight * moving
    return loss, error.detach().mean()


def train_few_step(
    config: ModelConfig,
    training: FewStepTraining,
    autoencoder: Autoencoder,
    teacher_weights: dict[str, Tensor],
    process: Process,
    *,
    folder: Path,
    seconds: float,
    total_steps: int | None = None,
    leg_steps: int | None = None,
    core: Core | None = None,
    compiled: bool = True,
    log: Callable[[str], None] = print,
    chart: Callable[[dict[str, float]], None] = lambda values: None,
) -> tuple[dict[str, Tensor], int]:
    """Distil for ``seconds``, or ``total_steps`` steps; resume from ``folder``.

    The rate falls linearly over the last half. Returns averaged weights and steps.
    """
    device = process.device
    torch.manual_seed(training.seed)
    student, teacher = (Transformer(config.transformer).to(device) for _ in range(2))
    for model in (student, teacher):
        model.load_state_dict({k: v.float() for k, v in teacher_weights.items()})
    teacher.requires_grad_(False)
    parameters = list(student.parameters())
    rules = optimizers(
        student,
        TransformerTraining(
            matrix_rate=training.matrix_rate, learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
        ),
    )  # fmt: skip
    rates = [rule.param_groups[0]["lr"] for rule in rules]
    average = run_state.Average(student, training.average_decay)
    path = folder / "few_step.run"
    step, spent = 0, 0.0
    if (saved := run_state.load_run(path, device)) is not None:
        student.load_state_dict(saved["model"])
        for rule, values in zip(rules, saved["optimizers"], strict=True):
            rule.load_state_dict(values)
        average.load_state_dict(saved["average"])
        step, spent = saved["step"], saved["spent"]
    for model in (student, teacher):
        use_kernels(model)
    switches = [compile_blocks(model) for model in (student, teacher)] if compiled else []
    chunk = config.chunk_latents
    pad_to = most_frames(chunk)
    generator = torch.Generator(device)
    stream = WorldStream(training.worlds, process, style=config.world_style)
    began, first, elapsed = time.monotonic(), step, 0.0
    totals = torch.zeros(2, device=device)
    while total_steps is None or step < total_steps:
        if leg_steps is not None and step - first >= leg_steps:
            break
        if total_steps is None and (step % 10 == 0 or step == first):
            elapsed = agree(time.monotonic() - began, process)
        if spent + elapsed > seconds:
            break
        progress = step / total_steps if total_steps else (spent + elapsed) / seconds
        scale = run_state.learning_rate_scale(round(progress * 10_000), 10_000, 100, 0.5)
        for rule, rate in zip(rules, rates, strict=True):
            for group in rule.param_groups:
                group["lr"] = rate * scale
        # Worlds that the teacher's training has not met.
        number = training.first_step + step
        layout = draw_layout(number, training.seed, chunk, config.video.fps)
        for use_compiled in switches:
            use_compiled(layout.context_latents == chunk == layout.target_latents)
        batch = procedural_batch(config, autoencoder, layout, stream.worlds(number), core, pad_to)
        generator.manual_seed(number * process.ranks + process.rank)
        loss, plain = distillation_loss(
            student, teacher, batch, training, config.sampler.shift, generator,
            random.Random(training.seed * 1_000_003 + step),
        )  # fmt: skip
        for rule in rules:
            rule.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters, process)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for rule in rules:
            rule.step()
        average.update(student)
        step += 1
        if step == first + 1:
            began = time.monotonic()  # compiling is not training
        totals += torch.stack((loss.detach(), plain))
        if process.leads and step % 50 == 0:
            weighted, unweighted = (totals / min(50, step - first)).tolist()
            totals.zero_()
            record = {
                "step": step, "seconds": round(spent + time.monotonic() - began, 1),
                "loss": round(weighted, 5), "plain_loss": round(unweighted, 5),
                "rate_scale": round(scale, 4),
            }  # fmt: skip
            log(f"few steps: {json.dumps(record)}")
            chart(record)
    spent += time.monotonic() - began
    if process.leads:
        run_state.save_run(
            path, model=student.state_dict(), optimizers=[rule.state_dict() for rule in rules],
            average=average.state_dict(), step=step, spent=spent,
        )  # fmt: skip
        log(f"few steps: {step - first} steps in {time.monotonic() - began:.0f} s, {step} in all")
    return average.weights, step
