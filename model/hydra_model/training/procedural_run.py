# SPDX-License-Identifier: Apache-2.0
"""The default model's run on procedural worlds: autoencoder, transformer, few steps."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import load_autoencoder, load_config, load_transformer
from hydra_model.checkpoints.assign import check_tensors, on_meta
from hydra_model.checkpoints.files import read_tensors
from hydra_model.config import ModelConfig, WorldStyle
from hydra_model.procedural import choose_core
from hydra_model.procedural.cores import Core
from hydra_model.training.autoencoder import (
    AutoencoderTraining,
    measure_latents,
    train_autoencoder,
)
from hydra_model.training.begun import check_begun
from hydra_model.training.distributed import Process
from hydra_model.training.few_step import FewStepTraining, train_few_step
from hydra_model.training.foresight import ForesightTraining
from hydra_model.training.initialisation import widened
from hydra_model.training.journal import Journal
from hydra_model.training.samples import show_world
from hydra_model.training.state import to_half
from hydra_model.training.transformer import TransformerTraining, train_transformer
from hydra_model.transformer import Transformer
from hydra_model.typed_values import check


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a part of a run is: ``seconds``, or ``steps`` where they are given.

    With neither it is false, and the part is left out.
    """

    seconds: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        check(self, "above 0", "seconds")
        check(self, "1 or more", "steps")

    def __bool__(self) -> bool:
        return self.seconds is not None or self.steps is not None

    @property
    def clock(self) -> float:
        return math.inf if self.seconds is None or self.steps is not None else self.seconds


@dataclass(frozen=True, kw_only=True)
class ProceduralRun:
    """A run on procedural worlds; see ``docs/training.md``.

    ``model`` is a preset or a JSON file; ``world_style`` says on which worlds instead of what it
    says (a student learns on its teacher's). ``borrowed_autoencoder`` is a model folder whose
    trained autoencoder is used as it is. ``start_from`` is a model folder whose weights are begun
    with instead of random ones: the autoencoder's, or, where the autoencoder is borrowed, the
    transformer's. ``teacher`` is a model folder to distil: nothing else is trained
    then. ``leg_seconds`` and ``leg_steps`` end a leg of the transformer's training before the
    plan does; the next leg goes on. ``compiled`` False starts quickly and runs slowly. ``samples``
    shows a held-out world at every save. ``foresight`` is trained by itself, for the trained
    model ``start_from``.
    """

    recipe: Literal["procedural"] = "procedural"
    output: str
    model: str = "default"
    world_style: WorldStyle | None = None
    borrowed_autoencoder: str | None = None
    start_from: str | None = None
    teacher: str | None = None
    autoencoder_length: Length = Length(seconds=170)
    transformer_length: Length = Length(seconds=900)
    few_step_length: Length = Length()
    foresight_length: Length = Length()
    leg_seconds: float | None = None
    leg_steps: int | None = None
    compiled: bool = True
    samples: bool = False
    device: str = "auto"
    autoencoder: AutoencoderTraining = field(default_factory=AutoencoderTraining)
    transformer: TransformerTraining = field(default_factory=TransformerTraining)
    few_step: FewStepTraining = field(default_factory=FewStepTraining)
    foresight: ForesightTraining = field(default_factory=ForesightTraining)

    def __post_init__(self) -> None:
        check(self, "above 0", "leg_seconds")
        check(self, "1 or more", "leg_steps")
        if not (self.start_from and self.borrowed_autoencoder):
            for name in ("own_share", "kept_blocks"):
                if getattr(self.transformer, name):
                    raise ValueError(
                        f"transformer.{name} needs weights to begin with: start_from and "
                        "borrowed_autoencoder"
                    )
        if self.autoencoder.decoder_only and (self.borrowed_autoencoder or not self.start_from):
            raise ValueError(
                "autoencoder.decoder_only needs an encoder to begin with: start_from, without "
                "borrowed_autoencoder"
            )

    def config(self) -> ModelConfig:
        path = Path(self.model)
        if path.suffix == ".json":
            config = ModelConfig.from_json(path.read_text(encoding="utf-8"))
        else:
            config = ModelConfig.from_name(self.model)
        return dataclasses.replace(config, world_style=self.world_style or config.world_style)

    def check_lengths(self, *, only: str = "") -> None:
        """Raise ``ValueError`` where a part that cannot be left out has no length.

        ``only`` "autoencoder" or "foresight" says that nothing else is trained.
        """
        if only == "foresight" and self.start_from is None:
            raise ValueError("start_from is empty; foresight is trained for a trained model")
        needed = ["few_step_length"]
        if self.teacher is None:
            needed = [] if self.borrowed_autoencoder else ["autoencoder_length"]
            needed += [] if only == "autoencoder" else ["transformer_length"]
        needed = ["foresight_length"] if only == "foresight" else needed
        for name in needed:
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; accepted: seconds above 0, or steps")


def run_procedural(
    settings: ProceduralRun, process: Process, journal: Journal, *, only_autoencoder: bool = False
) -> None:
    """Do what is left of a run; its folder holds the state of every part."""
    settings.check_lengths(only="autoencoder" if only_autoencoder else "")
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.cache_size_limit = 64
    folder = Path(settings.output)
    teacher = None if settings.teacher is None else load_config(Path(settings.teacher))
    style = (teacher or settings.config()).world_style
    core = choose_core(process.device, style, compiled=settings.compiled)
    if settings.teacher is not None:
        _few_steps(settings, Path(settings.teacher), process, journal, core)
        return
    model_folder = folder / "model"
    borrowed = ("autoencoder.",) if settings.borrowed_autoencoder else ()
    check_begun(folder, settings.config(), free=borrowed, keep=process.leads)
    if process.leads:
        model_folder.mkdir(parents=True, exist_ok=True)
    if not _autoencoder(settings, model_folder, process, journal) or only_autoencoder:
        return
    config, autoencoder = _load(settings, model_folder, process)

    def publish(weights: dict[str, Tensor], step: int) -> None:
        target = model_folder / "transformer.safetensors"
        save_file(to_half(weights), target.with_suffix(".partial"))
        target.with_suffix(".partial").replace(target)
        journal.say(f"saved the averaged weights of step {step}")
        if settings.samples:
            show_world(config, autoencoder, weights, process.device, folder, step, journal)

    length = settings.transformer_length
    # Its weights know the latents of its own autoencoder alone.
    begin = _transformer_start(settings, config) if settings.borrowed_autoencoder else None
    _, steps = train_transformer(
        config, settings.transformer, autoencoder, process, folder=folder, begin=begin,
        seconds=settings.leg_seconds or length.clock, total_seconds=length.clock,
        total_steps=length.steps, leg_steps=settings.leg_steps, core=core,
        compiled=settings.compiled, on_save=publish, log=journal.say, record=journal.record,
    )  # fmt: skip
    complete = settings.leg_seconds is None and (
        settings.leg_steps is None or (length.steps is not None and steps >= length.steps)
    )
    if complete and settings.few_step_length:
        _wait(process)  # for the weights that the leading process wrote
        _few_steps(settings, model_folder, process, journal, core)


def _autoencoder(
    settings: ProceduralRun, model_folder: Path, process: Process, journal: Journal
) -> bool:
    """Train or borrow the autoencoder if that is not done; say whether it is done now."""
    began = time.monotonic()
    folder, config = model_folder.parent, settings.config()
    done = folder / "autoencoder.done"
    # Its training is over before a compilation would have paid.
    plain = choose_core(process.device, config.world_style, compiled=False)
    if settings.borrowed_autoencoder and process.leads and not done.exists():
        source = Path(settings.borrowed_autoencoder)
        config = dataclasses.replace(config, autoencoder=load_config(source).autoencoder)
        load_autoencoder(source, config)  # refuses a damaged one before it is copied
        shutil.copy(source / "autoencoder.safetensors", model_folder)
        (model_folder / "config.json").write_text(config.to_json())
        done.write_text(f"from {source.name}\n")
    if not settings.borrowed_autoencoder and not done.exists():
        length = settings.autoencoder_length
        weights, steps = train_autoencoder(
            config, settings.autoencoder, process, folder=folder, seconds=length.clock,
            begin=_autoencoder_start(settings, config), total_steps=length.steps or 10**6,
            leg_steps=settings.leg_steps, core=plain, compiled=False, log=journal.say,
            chart=partial(journal.chart, stage="autoencoder"),
        )  # fmt: skip
        if length.steps is not None and steps < length.steps:
            return False
        worlds = settings.autoencoder.worlds
        if not settings.autoencoder.decoder_only:
            config = measure_latents(
                config, weights, process.device, worlds=4 * worlds, at_once=worlds, core=plain
            )
        if process.leads:
            save_file(to_half(weights), model_folder / "autoencoder.safetensors")
            (model_folder / "config.json").write_text(config.to_json())
            done.write_text(f"{steps} steps\n")
            seconds = time.monotonic() - began
            journal.say(f"autoencoder done after {steps} steps, {seconds:.0f} s")
    _wait(process)
    return True


def _few_steps(
    settings: ProceduralRun, teacher: Path, process: Process, journal: Journal, core: Core | None
) -> None:
    """Distil a model folder into ``few-step`` beside it, whose configuration says the steps."""
    folder = Path(settings.output)
    target = folder / "few-step"
    check_begun(folder, load_config(teacher), part="few-step", keep=process.leads)
    if process.leads:
        target.mkdir(parents=True, exist_ok=True)
    config, autoencoder = _load(settings, teacher, process)
    length = settings.few_step_length
    weights, _ = train_few_step(
        config, settings.few_step, autoencoder, load_transformer(teacher, config).state_dict(),
        process, folder=folder, seconds=length.clock, total_steps=length.steps,
        leg_steps=settings.leg_steps, core=core, compiled=settings.compiled, log=journal.say,
        chart=partial(journal.chart, stage="few_step"),
    )  # fmt: skip
    if process.leads:
        sampler = dataclasses.replace(config.sampler, steps=settings.few_step.steps)
        few = dataclasses.replace(config, sampler=sampler)
        (target / "config.json").write_text(few.to_json())
        shutil.copy(teacher / "autoencoder.safetensors", target)
        save_file(to_half(weights), target / "transformer.safetensors")
        journal.say(f"saved the {settings.few_step.steps}-step model in {target}")


def _load(
    settings: ProceduralRun, model_folder: Path, process: Process
) -> tuple[ModelConfig, Autoencoder]:
    config = load_config(model_folder)
    autoencoder = load_autoencoder(model_folder, config)
    autoencoder.prepare(process.device, torch.bfloat16)
    if settings.compiled:
        autoencoder.encode_moments = torch.compile(  # type: ignore[method-assign]
            autoencoder.encode_moments, dynamic=False
        )
    return config, autoencoder


def _autoencoder_start(settings: ProceduralRun, config: ModelConfig) -> dict[str, Tensor] | None:
    if settings.start_from is None:
        return None
    return load_autoencoder(settings.start_from, config).state_dict()


def _transformer_start(settings: ProceduralRun, config: ModelConfig) -> dict[str, Tensor] | None:
    if settings.start_from is None:
        return None
    path = Path(settings.start_from) / "transformer.safetensors"
    weights = read_tensors(path)
    model = on_meta(lambda: Transformer(config.transformer))
    expected = {name: value.shape for name, value in model.state_dict().items()}
    check_tensors(widened(weights, model), expected, path)
    return weights


def _wait(process: Process) -> None:
    if process.ranks > 1:
        torch.distributed.barrier()
