# SPDX-License-Identifier: Apache-2.0
"""Train a small HyDRA transformer on the procedural world."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from hydra_model.autoencoder import Autoencoder
from hydra_model.blocks import Memory
from hydra_model.config import ModelConfig
from hydra_model.detail import DetailConditioning
from hydra_model.procedural.cores import Core
from hydra_model.training import flow
from hydra_model.training import state as run_state
from hydra_model.training.channels import channel_weights
from hydra_model.training.data import Batch, MixedStream, procedural_batch
from hydra_model.training.distributed import Process, agree, average_gradients
from hydra_model.training.initialisation import initialise, widened
from hydra_model.training.layouts import draw_layout, most_frames
from hydra_model.training.muon import Muon
from hydra_model.training.own_starts import OwnStarts, first_draws, own_start
from hydra_model.training.scene_flow import scene_flow_loss, truer
from hydra_model.training.whereabouts import Forecaster
from hydra_model.transformer import Conditioning, Transformer
from hydra_model.typed_values import check

Conditioned = TypeVar("Conditioned", Conditioning, DetailConditioning)

WARMUP = 50  # steps over which the learning rates rise


@dataclass(frozen=True, kw_only=True)
class TransformerTraining:
    """How the transformer is trained.

    ``worlds`` per process and step; ``draws`` noisy targets share each world's context;
    ``shift`` of the noise shares, and the ``blind_share`` of them that lie near 1, where all
    must come from memory (a sampler with few steps decides there); ``subject_weight`` is the
    loss weight of latent positions that show a subject, ``returned_weight`` a factor of whole
    latent frames that show one which had been out of sight; with ``frame_balance`` (the power)
    and ``balance_floor`` the background of frames that are nearly right weighs more, see
    ``flow.frame_balance`` (off: single chunks became better with it, late revisits worse);
    ``forecast_weight`` is that of ``whereabouts.Forecaster``'s loss, ``flow_weight`` that of
    ``whereabouts.flow_loss``, where the model has a scene flow, and ``met_weight`` that of
    ``whereabouts.missed``; in ``known_share`` of the worlds the flow of subjects is the true one,
    so that what is drawn follows it; the first ``kept_blocks`` stay as they are, with all that is
    below them and what is read off them (0: everything is trained); ``context_noise`` is the
    largest deviation of the noise added to every second context, so that the model stands its
    own errors. ``own_share`` of each world's draws begin where the model's own sampling leads,
    and weigh ``own_weight``, and ``found_weight`` times as much where they show a subject about
    as it is (``own_starts``; for weights that are trained already).
    ``plain_share`` of the steps are on "plain" worlds. ``matrix_rate`` is Muon's
    rate (the blocks' matrices), ``learning_rate`` AdamW's (everything else); both fall over the
    last ``falling_share`` of the run. The worlds begin with those of ``first_step``, so that a
    run from another's weights need not meet that one's. ``channel_balance`` is the power to which
    errors in a latent channel weigh as they change the picture (``channels``; 0: all alike).
    """

    worlds: int = 24
    draws: int = 4
    matrix_rate: float = 2e-3
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    shift: float = 5.0
    blind_share: float = 0.3
    subject_weight: float = 8.0
    returned_weight: float = 3.0
    forecast_weight: float = 0.2
    flow_weight: float = 0.2
    met_weight: float = 0.0
    known_share: float = 0.0
    kept_blocks: int = 0
    frame_balance: float = 0.0
    balance_floor: float = 0.05
    channel_balance: float = 0.0
    plain_share: float = 0.2
    context_noise: float = 0.1
    own_share: float = 0.0
    own_weight: float = 2.0
    found_weight: float = 1.0
    falling_share: float = 0.3
    average_decay: float = 0.9993
    seed: int = 0
    first_step: int = 0

    def __post_init__(self) -> None:
        check(self, "1 or more", "worlds", "draws")
        check(
            self, "0 or more",
            "matrix_rate", "learning_rate", "weight_decay", "subject_weight", "returned_weight",
            "forecast_weight", "flow_weight", "met_weight", "frame_balance", "context_noise",
            "own_weight", "found_weight", "first_step", "kept_blocks", "channel_balance",
        )  # fmt: skip
        check(self, "above 0", "shift", "balance_floor")
        check(
            self, "0 to 1",
            "blind_share", "own_share", "plain_share", "known_share", "falling_share",
        )  # fmt: skip
        check(self, "0 or more and below 1", "average_decay")


def keep_blocks(model: Transformer, kept: int) -> None:
    """Let the first ``kept`` blocks, all that is below them and what is read off them not learn.

    So a scene flow and a foresight go on telling what they told, if it is read off such a block.
    """
    flow = model.scene_flow
    if kept > model.config.num_blocks:
        raise ValueError(f"kept_blocks is {kept}, the model has {model.config.num_blocks} blocks")
    if not kept:
        return
    model.requires_grad_(False)
    above = [*model.blocks[kept:], model.head, model.detail]
    if flow is not None and flow.after > kept:
        above.append(flow)
    for part in above:
        if part is not None:
            part.requires_grad_(True)


def optimizers(model: Transformer, training: TransformerTraining) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else that learns."""
    learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [
        p for name, p in learning
        if p.ndim == 2 and name.startswith(("blocks.", "detail.blocks.")) and "camera" not in name
    ]  # fmt: skip
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in learning if id(p) not in chosen]
    return [
        Muon(matrices, lr=training.matrix_rate, weight_decay=training.weight_decay),
        torch.optim.AdamW(
            rest, lr=training.learning_rate, weight_decay=training.weight_decay,
            betas=(0.9, 0.95), fused=rest[0].is_cuda,
        ),
    ]  # fmt: skip


def compile_blocks(model: Transformer) -> Callable[[bool], None]:
    """Compile the passes of the blocks; those of one scale share the compiled code.

    Returns what switches between the compiled passes and the plain ones: shapes that are rare
    are not worth compiling for.
    """
    blocks = model.all_layers
    names = ("context", "target", "remember", "refine")
    plain = [{name: getattr(block, name) for name in names} for block in blocks]
    fast = [
        {name: torch.compile(own, dynamic=False) for name, own in passes.items()}
        for passes in plain
    ]

    def use(compiled: bool) -> None:
        for block, passes in zip(blocks, fast if compiled else plain, strict=True):
            for name, own in passes.items():
                setattr(block, name, own)

    return use


def use_kernels(model: Transformer) -> None:
    """Let a model on a GPU attend to frames where they lie, if Triton and its sizes allow it."""
    if not (model.head.linear.weight.is_cuda and find_spec("triton")):
        return
    from hydra_model.training.retrieval_kernels import retrieval_attention

    for block in model.all_layers:
        config = block.self_attention.config
        power = config.head_dim & (config.head_dim - 1) == 0
        paper = config.memory_source == "context" and config.memory_stride[1:] == (1, 1)
        if paper and power and config.head_dim >= 16:
            block.self_attention.attend_frames = retrieval_attention


def repeat(conditioning: Conditioning, draws: int) -> Conditioning:
    """Let every context serve ``draws`` targets; the repeats of one world are neighbours."""
    if draws == 1:
        return conditioning
    camera = conditioning.target_camera
    samples = torch.arange(len(camera), device=camera.device).repeat_interleave(draws)

    def repeated(part: Conditioned) -> Conditioned:
        memories = tuple(
            Memory(*(getattr(m, f.name).repeat_interleave(draws, 0) for f in dataclasses.fields(m)))
            for m in part.memories
        )
        return dataclasses.replace(
            part,
            memories=memories,
            target_by=None if part.target_by is None else part.target_by.rows(samples),
            target_camera=part.target_camera.repeat_interleave(draws, 0),
            moves=None if part.moves is None else part.moves.repeat_interleave(draws, 0),
        )

    detail = None if conditioning.detail is None else repeated(conditioning.detail)
    return dataclasses.replace(repeated(conditioning), detail=detail)


class Losses(NamedTuple):
    """What is optimised: the weighted loss, the forecast's, the scene flow's.

    ``plain`` is the first without weights.
    """

    weighted: Tensor
    plain: Tensor
    forecast: Tensor
    flow: Tensor


def batch_loss(
    model: Transformer,
    batch: Batch,
    training: TransformerTraining,
    generator: torch.Generator,
    forecaster: Forecaster | None = None,
    own: OwnStarts | None = None,
    channels: Tensor | None = None,
) -> Losses:
    """Return the losses of one batch: 0 for a forecaster or scene flow that is not there.

    With ``own`` some of the targets begin where the model's own sampling leads; ``channels`` are
    weights of latent channels.
    """
    draws = training.draws
    device = batch.target.device

    def normal(shape: torch.Size) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    count = batch.context.shape[0]
    amount = torch.rand(count, generator=generator, device=device) * 2 - 1
    amount = (amount.clamp(min=0) * training.context_noise).view(-1, 1, 1, 1, 1)
    context = batch.context + amount * normal(batch.context.shape)
    latents = batch.target.repeat_interleave(draws, 0)
    sigma = flow.draw_sigmas(
        count * draws, training.shift, generator, blind_share=training.blind_share
    )
    noise = normal(latents.shape)
    noisy = flow.mix(latents, noise, sigma)
    features: list[Tensor] = []
    known: Tensor | None = None
    if training.known_share > 0 and model.scene_flow is not None:
        known = torch.rand(count, generator=generator, device=device) < training.known_share

    def prepared(model: Transformer, features: list[Tensor] | None = None) -> Conditioning:
        return model.prepare(
            context, batch.context_camera, batch.target_camera,
            context_times=batch.context_times, target_times=batch.target_times,
            detail_camera=batch.detail_camera, features=features,
            corrected=None if known is None else partial(truer, batch, known),
            followed=None if known is None else ~known,
        )  # fmt: skip

    subject = batch.subject.repeat_interleave(draws, 0)
    started = 0 if own is None else round(draws * training.own_share)
    rows = first_draws(count, draws, started, device)
    found = subject.new_zeros(())
    with torch.autocast(device.type, torch.bfloat16):
        conditioning = prepared(model, features)
        if own is not None and started:
            with torch.no_grad():
                start = own_start(
                    model, own, repeat(conditioning, started),
                    repeat(prepared(own.teacher), started), latents[rows], noise[rows],
                    subject[rows], None if known is None else known.repeat_interleave(started),
                )  # fmt: skip
            noisy[rows], sigma[rows] = start.noisy, start.sigma
            noise[rows] = start.velocity + latents[rows]  # as the velocity is taken from it
            found = start.found
        prediction = model(noisy, sigma, repeat(conditioning, draws))
        if forecaster is None:
            forecast = prediction.new_zeros(())
        else:
            forecast = forecaster.loss(features, batch.forecast)
        moving = scene_flow_loss(model, features, batch, training.met_weight)
    error = flow.velocity_error(prediction, latents, noise, channels)
    balance: Tensor | float = 1.0
    if training.frame_balance > 0:
        balance = flow.frame_balance(
            error, subject == 0, training.frame_balance, training.balance_floor
        )
    weight = balance + (training.subject_weight - 1) * subject
    # Of whole frames: to weigh subjects where they are is to show them wherever they might be.
    again = batch.returned.amax((-2, -1), keepdim=True).repeat_interleave(draws, 0) > 0
    weight = torch.where(again, training.returned_weight * weight, weight)
    weight[rows] = training.own_weight * (1 + (training.found_weight - 1) * found)
    weighted = flow.weighted_mean(error, weight)
    plain = error.detach().mean()
    return Losses(weighted, plain, forecast, moving)


def train_transformer(
    config: ModelConfig,
    training: TransformerTraining,
    autoencoder: Autoencoder,
    process: Process,
    *,
    folder: Path,
    seconds: float,
    total_seconds: float,
    core: Core | None = None,
    compiled: bool = True,
    begin: dict[str, Tensor] | None = None,
    total_steps: int | None = None,
    leg_steps: int | None = None,
    on_save: Callable[[dict[str, Tensor], int], None] | None = None,
    save_every: float = 120.0,
    log: Callable[[str], None] = print,
    record: Callable[[dict[str, float]], None] | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Train for ``seconds`` of a run that is planned for ``total_seconds``; resume from ``folder``.

    The learning rate follows the run's progress in training seconds, which the checkpoint
    keeps. With ``total_steps`` it follows the steps instead, and the run ends after as many: then
    nothing depends on a clock, and a run that was stopped (by ``leg_steps``) and resumed equals
    an unbroken one. ``begin`` are the weights to begin with (``widened``). ``record`` gets the
    numbers of every 50 steps instead of a line of ``log``.
    Returns the averaged weights and the number of steps.
    """
    device = process.device
    torch.manual_seed(training.seed)
    model = Transformer(config.transformer).to(device)
    initialise(model)
    if begin is not None:
        model.load_state_dict(widened(begin, model))
    own = None
    if training.own_share > 0:
        if begin is None:
            raise ValueError("own_share needs weights to begin with: start_from")
        own = OwnStarts.of(copy.deepcopy(model), config.sampler)
    keep_blocks(model, training.kept_blocks)
    channels = None
    if training.channel_balance > 0:
        channels = channel_weights(config, autoencoder, training.channel_balance)
    forecaster = Forecaster(config.transformer).to(device)
    parameters = [*model.parameters(), *forecaster.parameters()]
    rules = [
        *optimizers(model, training),
        torch.optim.AdamW(forecaster.parameters(), lr=training.learning_rate, betas=(0.9, 0.95)),
    ]
    rates = [rule.param_groups[0]["lr"] for rule in rules]
    average = run_state.Average(model, training.average_decay)
    path = folder / "transformer.run"
    step, spent = 0, 0.0
    if (saved := run_state.load_run(path, device)) is not None:
        model.load_state_dict(saved["model"])
        forecaster.load_state_dict(saved["forecaster"])
        for rule, values in zip(rules, saved["optimizers"], strict=True):
            rule.load_state_dict(values)
        average.load_state_dict(saved["average"])
        step, spent = saved["step"], saved["spent"]
    for each in (model,) if own is None else (model, own.teacher):
        use_kernels(each)
    use_compiled = compile_blocks(model) if compiled else None
    if compiled and own is not None:
        compile_blocks(own.teacher)(True)
    chunk = config.chunk_latents
    pad_to = most_frames(chunk)
    generator = torch.Generator(device)
    stream = MixedStream(
        training.worlds, process, style=config.world_style, plain_share=training.plain_share
    )

    def save() -> None:
        run_state.save_run(
            path, model=model.state_dict(), forecaster=forecaster.state_dict(),
            optimizers=[rule.state_dict() for rule in rules], average=average.state_dict(),
            step=step, spent=spent,
        )  # fmt: skip
        if on_save is not None:
            on_save(average.weights, step)

    began = last = saved_at = time.monotonic()
    first = step
    totals = torch.zeros(len(Losses._fields), device=device)
    elapsed = 0.0
    # In steps: a clock would count compiling, and runs of one plan would begin differently.
    warmup = WARMUP if total_steps is None else max(1, min(WARMUP, total_steps // 20))
    while total_steps is None or step < total_steps:
        if leg_steps is not None and step - first >= leg_steps:
            break
        # Seldom, because agreeing waits for the GPU, which then runs dry.
        if total_steps is None and (step % 10 == 0 or step == first):
            elapsed = agree(time.monotonic() - began, process)
        if elapsed > seconds or spent + elapsed > total_seconds:
            break
        progress = step / total_steps if total_steps else (spent + elapsed) / total_seconds
        scale = run_state.learning_rate_scale(
            round(progress * 10_000), 10_000, 0, training.falling_share
        )
        scale *= min(1.0, (step + 1) / warmup)
        for rule, rate in zip(rules, rates, strict=True):
            for group in rule.param_groups:
                group["lr"] = rate * scale
        number = training.first_step + step
        layout = draw_layout(number, training.seed, chunk, config.video.fps)
        if use_compiled is not None:
            use_compiled(layout.context_latents == chunk)
        whole = layout.context_latents == chunk == layout.target_latents
        worlds = stream.worlds(number)
        batch = procedural_batch(config, autoencoder, layout, worlds, core, pad_to)
        generator.manual_seed(number * process.ranks + process.rank)
        # Of the usual shape alone, which is compiled.
        losses = batch_loss(
            model, batch, training, generator, forecaster, own if whole else None, channels
        )
        for rule in rules:
            rule.zero_grad(set_to_none=True)
        told = training.forecast_weight * losses.forecast + training.flow_weight * losses.flow
        (losses.weighted + told).backward()
        average_gradients(parameters, process)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for rule in rules:
            rule.step()
        average.update(model)
        step += 1
        if step == first + 1:
            began = last = saved_at = time.monotonic()  # compiling is not training
        totals += torch.stack(losses).detach()
        if process.leads and step % 50 == 0:
            now = time.monotonic()
            counted = min(50, step - first)  # a leg may have begun in between
            weighted, unweighted, forecast, moving = (totals / counted).tolist()
            totals.zero_()
            numbers = {
                "step": step, "seconds": round(spent + now - began, 1),
                "loss": round(weighted, 4), "plain_loss": round(unweighted, 4),
                "forecast": round(forecast, 4), "flow": round(moving, 4),
                "worlds_per_second": round(
                    counted * training.worlds * process.ranks / (now - last), 1
                ),
                "rate_scale": round(scale, 4),
            }  # fmt: skip
            last = now
            if record is None:
                log(json.dumps(numbers))
            else:
                record(numbers)
        if process.leads and time.monotonic() - saved_at > save_every:
            spent_before = spent
            spent += time.monotonic() - began
            save()
            spent = spent_before
            saved_at = time.monotonic()
    spent += time.monotonic() - began
    if process.leads:
        save()
        log(f"transformer: {step - first} steps in {time.monotonic() - began:.0f} s, {step} in all")
    return average.weights, step
