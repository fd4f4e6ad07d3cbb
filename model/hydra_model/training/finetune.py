# SPDX-License-Identifier: Apache-2.0
"""Fine-tune a transformer on prepared clips as HyDRA was trained from the Wan base."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from hydra_model.autoencoder import Autoencoder, video_to_frames
from hydra_model.checkpoints import save_model_folder
from hydra_model.config import ModelConfig
from hydra_model.pictures import contact_sheet, side_by_side
from hydra_model.training.distributed import Process
from hydra_model.training.hydra_objective import (
    Bell,
    FlowObjective,
    noise_levels,
    trained_parts,
)
from hydra_model.training.journal import Journal
from hydra_model.training.latent_batches import BatchStream, Clips
from hydra_model.training.sharding import Checkpoints, ShardedAverage, join_alone, shard, whole
from hydra_model.transformer import Transformer
from hydra_model.typed_values import check
from hydra_model.video import write_video


@dataclass(frozen=True, kw_only=True)
class FinetuneTraining:
    """How the transformer is fine-tuned.

    ``batch`` clips per process, ``accumulate`` times before each of ``steps`` steps. ``trained``
    is "hydra" (self-attention with tokenizer and projector, camera encoders) or "all".
    ``timesteps``, ``shift`` and ``bell`` are the loss's (``hydra_objective.noise_levels``).
    Numbers ``*_every`` are steps, 0 for never; ``keep`` checkpoints are kept. With ``save_every``
    0 a run leaves nothing but its log. ``precision`` is
    that of the products; trained weights and their average stay float32.
    """

    steps: int = 10_000
    batch: int = 1
    accumulate: int = 1
    trained: Literal["hydra", "all"] = "hydra"
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    warmup: int = 100
    largest_gradient: float = 1.0
    average_decay: float = 0.9999
    timesteps: int = 1000
    shift: float = 5.0
    bell: Bell = "index"
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    checkpointing: bool = True
    log_every: int = 10
    save_every: int = 500
    sample_every: int = 500
    sample_steps: int = 20
    keep: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        check(
            self, "1 or more",
            "steps", "batch", "accumulate", "timesteps", "log_every", "sample_steps", "keep",
        )  # fmt: skip
        check(
            self, "0 or more",
            "learning_rate", "weight_decay", "warmup", "save_every", "sample_every",
        )  # fmt: skip
        check(self, "above 0", "largest_gradient", "shift")
        check(self, "0 or more and below 1", "average_decay")


def finetune(
    config: ModelConfig,
    transformer: Transformer,
    clips: Clips,
    training: FinetuneTraining,
    process: Process,
    *,
    folder: Path,
    journal: Journal,
    autoencoder: Autoencoder | None = None,
    leg_steps: int | None = None,
) -> list[float]:
    """Train to ``training.steps`` steps in all, or ``leg_steps`` of them now.

    Resumes from ``folder``; a run that was stopped and resumed equals an unbroken one.
    ``transformer`` holds the start (its weights are moved and sharded in place). Writes
    checkpoints, sample videos (with an ``autoencoder``) and, at the end, the model folder
    ``folder/model`` with averaged weights in bfloat16. Returns the logged losses.
    """
    join_alone(process)
    torch.manual_seed(training.seed)
    objective = _objective(config, transformer, training, process)
    trained = {n: p for n, p in transformer.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        trained.values(), lr=training.learning_rate, betas=(0.9, 0.999),
        weight_decay=training.weight_decay, foreach=True,
    )  # fmt: skip
    average = ShardedAverage(trained, training.average_decay)
    checkpoints = Checkpoints(folder, process, keep=training.keep)
    facts = checkpoints.load(objective, optimizer, average)
    step = 0 if facts is None else int(facts["step"])
    journal.say(
        f"{sum(p.numel() for p in trained.values()) / 1e6:.1f} M of "
        f"{sum(p.numel() for p in transformer.parameters()) / 1e6:.1f} M parameters are trained, "
        f"on {process.ranks} x {process.device.type}, from step {step}"
    )
    stream = BatchStream(
        clips, config, process, batch=training.batch, levels=training.timesteps, seed=training.seed
    )
    log = _Log(journal, training, process)
    last = training.steps if leg_steps is None else min(training.steps, step + leg_steps)
    try:
        while step < last:
            scale = min(1.0, (step + 1) / max(1, training.warmup))
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * scale
            loss = _accumulated(objective, stream, step, training)
            norm = whole(nn.utils.clip_grad_norm_(trained.values(), training.largest_gradient))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update()
            step += 1
            log.add(step, loss, norm, training.learning_rate * scale)
            if training.save_every and step % training.save_every == 0 and step < last:
                checkpoints.save(objective, optimizer, average, {"step": step})
            if training.sample_every and step % training.sample_every == 0:
                _show(
                    objective, average, stream, config, training, process,
                    autoencoder=autoencoder, folder=folder, step=step, journal=journal,
                )  # fmt: skip
    finally:
        stream.close()
    if training.save_every:
        checkpoints.save(objective, optimizer, average, {"step": step})
        export(transformer, average, config, folder / "model", process)
    return log.losses


def _objective(
    config: ModelConfig, transformer: Transformer, training: FinetuneTraining, process: Process
) -> FlowObjective:
    dtype = getattr(torch, training.precision)
    for name, parameter in transformer.named_parameters():
        train = training.trained == "all" or trained_parts(name)
        parameter.requires_grad_(train)
        # Frozen weights are only ever used in the products' type.
        parameter.data = parameter.data.to(process.device, torch.float32 if train else dtype)
    objective = FlowObjective(
        transformer.train(),
        noise_levels(training.timesteps, training.shift, training.bell),
        round_timestep=config.sampler.round_timestep,
    )
    shard(objective, process, dtype=dtype, checkpointing=training.checkpointing)
    return objective


def _accumulated(
    objective: FlowObjective, stream: BatchStream, step: int, training: FinetuneTraining
) -> Tensor:
    """Run a step's batches forward and backward.

    Returns the means of their weighted and plain losses ``[2]``, still on the device.
    """
    total = torch.zeros(2, device=stream.process.device)
    sync: Callable[[bool], None] = objective.set_requires_gradient_sync  # type: ignore[assignment]
    for i in range(training.accumulate):
        sync(i == training.accumulate - 1)
        loss, plain = objective(stream.batch(step * training.accumulate + i))
        (loss / training.accumulate).backward()
        total += torch.stack((loss.detach(), plain)) / training.accumulate
    return total


class _Log:
    """Means over the steps since the last line; the device is waited for only then."""

    def __init__(self, journal: Journal, training: FinetuneTraining, process: Process) -> None:
        self.journal, self.training, self.process = journal, training, process
        self.losses: list[float] = []
        self._sum = torch.zeros(2, device=process.device)
        self._count, self._began = 0, time.monotonic()

    def add(self, step: int, loss: Tensor, norm: Tensor, rate: float) -> None:
        self._sum += loss
        self._count += 1
        if step % self.training.log_every:
            return
        mean, plain = (self._sum / self._count).tolist()
        self.losses.append(mean)
        seconds = (time.monotonic() - self._began) / self._count
        record = {
            "step": step, "loss": round(mean, 6), "plain_loss": round(plain, 6),
            "gradient": round(float(norm), 4), "seconds_per_step": round(seconds, 4),
            "rate": rate,
        }  # fmt: skip
        if self.process.device.type == "cuda":
            record["memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        self.journal.record(record)
        self._sum.zero_()
        self._count, self._began = 0, time.monotonic()


@torch.no_grad()
def _show(
    objective: FlowObjective,
    average: ShardedAverage,
    stream: BatchStream,
    config: ModelConfig,
    training: FinetuneTraining,
    process: Process,
    *,
    autoencoder: Autoencoder | None,
    folder: Path,
    step: int,
    journal: Journal,
) -> None:
    """Write a video of truth and prediction for the run's first clip, by averaged weights."""
    if autoencoder is None:
        return
    # Every process shows its own clip: with sharded weights all must take part.
    batch = stream.first_clip()
    sampler = dataclasses.replace(config.sampler, steps=training.sample_steps, guidance_scale=1.0)
    with average.applied():
        latents = objective.sample(batch, sampler)
    if not process.leads:
        return
    kind = next(autoencoder.parameters()).dtype
    truth, guess = (
        video_to_frames(autoencoder.decode(x.to(kind))) for x in (batch.target, latents)
    )
    path = folder / "samples" / f"step-{step:08d}.mp4"
    write_video(path, side_by_side(truth, guess), config.video.fps)
    journal.picture("sample", contact_sheet([("truth", truth), ("prediction", guess)], 6), step)
    journal.say(f"truth and prediction of {batch.names[0]}: {path}")


@torch.no_grad()
def export(
    transformer: Transformer,
    average: ShardedAverage,
    config: ModelConfig,
    folder: Path,
    process: Process,
) -> None:
    """Write configuration and weights (trained ones averaged) as bfloat16 to a model folder."""
    weights = {}
    for name, parameter in transformer.named_parameters():
        value = whole(average.weights.get(name, parameter))
        if process.leads:
            weights[name] = value.to("cpu", torch.bfloat16).contiguous()
    if process.leads:
        save_model_folder(folder, config, transformer=weights)
