# SPDX-License-Identifier: Apache-2.0
"""Train a small Wan autoencoder on the procedural world."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import ModelConfig
from hydra_model.procedural import sample_worlds
from hydra_model.procedural.cores import Core
from hydra_model.training import state as run_state
from hydra_model.training.data import WorldStream, render_clips, to_video
from hydra_model.training.distributed import Process, agree, average_gradients
from hydra_model.training.muon import Muon
from hydra_model.typed_values import check


@dataclass(frozen=True, kw_only=True)
class AutoencoderTraining:
    """How the autoencoder is trained.

    ``frames`` per clip; ``clips`` per process and step, cut from ``worlds`` worlds that are
    rendered at once and gone through ``epochs`` times; ``kl`` weighs the latents' divergence
    from a unit Gaussian, ``edges`` the difference of image gradients beside plain L1;
    ``subject_weight`` is the weight of pixels that show a subject in both. ``anchor`` weighs the
    squared distance, in deviations of each channel, from the latents of the weights that training
    begins with, so that a transformer which knows those can go on with the new ones. With
    ``decoder_only`` the encoder stays what it is, and so do all latents.
    """

    frames: int = 17
    clips: int = 12
    worlds: int = 16
    epochs: int = 3
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    kl: float = 1e-4
    edges: float = 0.5
    subject_weight: float = 8.0
    anchor: float = 0.0
    decoder_only: bool = False
    average_decay: float = 0.998

    def __post_init__(self) -> None:
        check(self, "1 or more", "frames", "clips", "worlds", "epochs")
        check(
            self, "0 or more",
            "learning_rate", "weight_decay", "kl", "edges", "subject_weight", "anchor",
        )  # fmt: skip
        check(self, "0 or more and below 1", "average_decay")


class ClipSource:
    """Short clips for each step, shuffled out of long renderings of a few worlds."""

    def __init__(
        self,
        config: ModelConfig,
        training: AutoencoderTraining,
        process: Process,
        core: Core | None,
    ) -> None:
        self.config, self.training, self.core = config, training, core
        self.stream = WorldStream(training.worlds, process, style=config.world_style)
        first, last = -config.context_frames, config.chunk_frames
        self.frames = list(range(first, last))
        self.per_world = len(self.frames) // training.frames
        self.per_epoch = max(1, training.worlds * self.per_world // training.clips)
        self._block = self._epoch = -1
        self._clips = self._order = torch.empty(0)
        self._subjects = torch.empty(0)

    def clips(self, step: int) -> tuple[Tensor, Tensor]:
        """Return uint8 ``[clips, frames, H, W, 3]`` and where they show subjects, for a step."""
        epoch, place = divmod(step, self.per_epoch)
        block = epoch // self.training.epochs
        if block != self._block:
            pictures, _, ids = render_clips(
                self.config, self.stream.worlds(block), self.frames, self.core, 0
            )
            self._clips, self._subjects = self._cut(pictures), self._cut(ids > 0)
            self._block = block
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(epoch)
            order = torch.randperm(len(self._clips), generator=generator)
            self._order, self._epoch = order.to(self._clips.device), epoch
        count = self.training.clips
        chosen = self._order[place * count : (place + 1) * count]
        return self._clips[chosen], self._subjects[chosen]

    def _cut(self, video: Tensor) -> Tensor:
        """Cut videos ``[B, T, ...]`` into clips."""
        length = self.training.frames
        return video[:, : self.per_world * length].unflatten(1, (-1, length)).flatten(0, 1)


def loss_terms(video: Tensor, decoded: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted L1 of pixels and of image gradients (along both axes).

    ``video``, ``decoded [B, 3, T, H, W]``; ``weight [B, 1, T, H, W]`` is brought to mean 1. A
    gradient weighs as much as the heavier of its two pixels.
    """

    def mean(error: Tensor, weight: Tensor) -> Tensor:
        return (error.abs() * weight).mean() / weight.mean()

    error = decoded - video
    across = torch.maximum(weight[..., 1:], weight[..., :-1])
    down = torch.maximum(weight[..., 1:, :], weight[..., :-1, :])
    return mean(error, weight), mean(error.diff(dim=-1), across) + mean(error.diff(dim=-2), down)


def train_autoencoder(
    config: ModelConfig,
    training: AutoencoderTraining,
    process: Process,
    *,
    folder: Path,
    seconds: float,
    total_steps: int,
    leg_steps: int | None = None,
    core: Core | None = None,
    compiled: bool = True,
    begin: dict[str, Tensor] | None = None,
    log: Callable[[str], None] = print,
    chart: Callable[[dict[str, float]], None] = lambda values: None,
) -> tuple[dict[str, Tensor], int]:
    """Train for ``seconds`` or until ``total_steps``; resume from ``folder``.

    The rate falls along whichever of the two ends first. With endless ``seconds`` nothing
    depends on a clock; ``leg_steps`` ends this leg earlier. ``begin`` are the weights to begin
    with; the latents stay near theirs if ``training.anchor`` says so. ``chart`` gets the numbers
    of each line of ``log``. Returns averaged weights and steps.
    """
    device = process.device
    torch.manual_seed(0)
    model = Autoencoder(config.autoencoder).prepare(device, torch.float32).requires_grad_(True)
    if begin is not None:
        model.load_state_dict(begin)
    if training.decoder_only:
        model.wan.encoder.requires_grad_(False)
        model.wan.quant_conv.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    kernels = [p for p in parameters if p.ndim >= 2 and p[0].numel() > 1]
    rest = [p for p in parameters if not (p.ndim >= 2 and p[0].numel() > 1)]
    rules: list[torch.optim.Optimizer] = [
        Muon(kernels, lr=training.learning_rate, weight_decay=training.weight_decay),
        torch.optim.AdamW(
            rest,
            lr=training.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=device.type == "cuda",
        ),
    ]
    average = run_state.Average(model, training.average_decay)
    path = folder / "autoencoder.run"
    step = 0
    if (saved := run_state.load_run(path, device)) is not None:
        model.load_state_dict(saved["model"])
        for rule, values in zip(rules, saved.get("optimizers", []), strict=False):
            rule.load_state_dict(values)
        average.load_state_dict(saved["average"])
        step = saved["step"]
    anchor = None
    if begin is not None and training.anchor > 0:
        anchor = Autoencoder(config.autoencoder).prepare(device, torch.float32)
        anchor.load_state_dict(begin)
    deviation = torch.tensor(config.autoencoder.latents_std, device=device).view(-1, 1, 1, 1)
    generator = torch.Generator(device)
    source = ClipSource(config, training, process, core)
    forward = torch.compile(reconstruct, dynamic=False) if compiled else reconstruct
    began, first = time.monotonic(), step
    while step < total_steps and (leg_steps is None or step - first < leg_steps):
        elapsed = agree(time.monotonic() - began, process)
        if elapsed > seconds:
            break
        progress = max(step / total_steps, elapsed / seconds)
        rate = training.learning_rate * run_state.learning_rate_scale(
            round(progress * 10_000), 10_000, warmup=100, decay=0.4
        )
        for rule in rules:
            for group in rule.param_groups:
                group["lr"] = rate
        pictures, subjects = source.clips(step)
        weight = 1 + (training.subject_weight - 1) * subjects[:, None].float()
        video = to_video(pictures).to(memory_format=torch.channels_last_3d)
        generator.manual_seed(step * process.ranks + process.rank)
        k = model.latent_frames(training.frames)
        stride = config.autoencoder.spatial_stride
        noise = torch.randn(
            len(video), config.autoencoder.latent_channels, k,
            video.shape[-2] // stride, video.shape[-1] // stride,
            generator=generator, device=device,
        )  # fmt: skip
        moved = video.new_zeros(())
        with torch.autocast(device.type, torch.bfloat16):
            decoded, mean, kl = forward(model, video, noise)
            if anchor is not None:
                with torch.no_grad():
                    was = anchor.encode_moments(video)[0]
                moved = ((mean - was) / deviation).float().square().mean()
        pixels, edges = loss_terms(video, decoded.float(), weight)
        loss = pixels + training.edges * edges + training.kl * kl + training.anchor * moved
        for rule in rules:
            rule.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(parameters, process)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for rule in rules:
            rule.step()
        average.update(model)
        step += 1
        if step == first + 1:
            began = time.monotonic()  # compiling is not training
        if process.leads and (step % 100 == 0 or step == first + 1):
            error = F.mse_loss(decoded.detach().clamp(-1, 1), video)
            psnr = -10 * torch.log10(error / 4)
            log(
                f"autoencoder step {step} loss {loss.item():.4f} pixels {pixels.item():.4f} "
                f"kl {kl.item():.2f} moved {moved.item():.4f} psnr {psnr.item():.2f} dB "
                f"rate {rate:.1e} "
                f"{(step - first) / (time.monotonic() - began):.1f} steps/s"
            )
            chart({"step": step, "loss": loss.item(), "psnr": psnr.item(), "rate": rate})
    if process.leads:
        run_state.save_run(
            path, model=model.state_dict(), optimizers=[rule.state_dict() for rule in rules],
            average=average.state_dict(), step=step,
        )  # fmt: skip
    return average.weights, step


def reconstruct(model: Autoencoder, video: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the decoded video, the latents' means and their divergence from a unit Gaussian."""
    mean, log_variance = model.encode_moments(video)
    sampled = mean + noise * (0.5 * log_variance).exp()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    # Weights that training goes on from come with their latents' mean and deviation.
    decoded = model.decode_parallel(model.normalise(sampled), clamp=False)
    return decoded, mean, kl


@torch.no_grad()
def measure_latents(
    config: ModelConfig,
    weights: dict[str, Tensor],
    device: torch.device,
    *,
    worlds: int = 64,
    at_once: int = 16,
    first_seed: int = 900_000_000,
    core: Core | None = None,
) -> ModelConfig:
    """Return ``config`` with the latents' mean and deviation per channel filled in."""
    model = Autoencoder(config.autoencoder).to(device)
    model.load_state_dict(weights)
    means = []
    frames = list(range(-config.context_frames, config.chunk_frames))
    for start in range(0, worlds, at_once):
        seeds = torch.arange(first_seed + start, first_seed + start + at_once)
        drawn = sample_worlds(seeds, style=config.world_style, device=device)
        pictures, _, _ = render_clips(config, drawn, frames, core, 0)
        for part in pictures[:, : config.context_frames].split(4):
            means.append(model.encode_moments(to_video(part))[0])
    latents = torch.cat(means)
    axes = (0, 2, 3, 4)
    return dataclasses.replace(
        config,
        autoencoder=dataclasses.replace(
            config.autoencoder,
            latents_mean=tuple(round(v, 4) for v in latents.mean(axes).tolist()),
            latents_std=tuple(round(v, 4) for v in latents.std(axes).tolist()),
        ),
    )
