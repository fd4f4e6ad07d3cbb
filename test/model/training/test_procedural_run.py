# SPDX-License-Identifier: Apache-2.0
"""Whole runs on procedural worlds: autoencoder, transformer and distillation, in legs."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import load_config, save_model_folder
from hydra_model.training.autoencoder import AutoencoderTraining
from hydra_model.training.begun import check_begun
from hydra_model.training.data import WorldStream
from hydra_model.training.distributed import Process
from hydra_model.training.few_step import FewStepTraining
from hydra_model.training.journal import Journal
from hydra_model.training.procedural_run import Length, ProceduralRun, run_procedural
from hydra_model.training.state import load_run
from hydra_model.training.transformer import TransformerTraining
from hydra_model.transformer import Transformer
from hydra_model.world import World
from small_trainings import CONFIG, SHORT


def procedural(folder: Path, config: Path, **changes) -> ProceduralRun:
    lengths = {"autoencoder_length": 3, "transformer_length": 3, "few_step_length": 3}
    return ProceduralRun(
        output=str(folder), model=str(config), device="cpu", compiled=False,
        autoencoder=AutoencoderTraining(clips=2, worlds=1),
        transformer=TransformerTraining(worlds=1, draws=2),
        few_step=FewStepTraining(steps=2, substeps=2, worlds=1, draws=1),
        **{name: Length(steps=steps) for name, steps in lengths.items()}, **changes,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"autoencoder_length": Length()}, "autoencoder_length is empty"),
        ({"transformer_length": Length()}, "transformer_length is empty"),
        ({"few_step_length": Length(), "teacher": "/teacher"}, "few_step_length is empty"),
    ],
)
def test_a_part_that_must_be_trained_needs_a_length(changes, said, tmp_path: Path) -> None:
    settings = dataclasses.replace(procedural(tmp_path / "run", tmp_path / "none"), **changes)
    process = Process(0, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match=f"{said}; accepted: seconds above 0, or steps"):
        run_procedural(settings, process, Journal(tmp_path / "logs", tensorboard=False))
    assert not (tmp_path / "run").exists()


def test_a_part_that_is_not_trained_needs_no_length(tmp_path: Path) -> None:
    settings = procedural(tmp_path / "run", tmp_path / "none")
    empty = dict.fromkeys(("autoencoder_length", "transformer_length"), Length())
    dataclasses.replace(settings, teacher="/teacher", **empty).check_lengths()
    dataclasses.replace(
        settings, borrowed_autoencoder="/model", autoencoder_length=Length(),
        few_step_length=Length(),
    ).check_lengths()  # fmt: skip
    alone = dataclasses.replace(settings, transformer_length=Length())
    alone.check_lengths(only="autoencoder")


def test_a_run_says_on_which_worlds_it_was(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(SHORT.to_json())
    process = Process(0, 1, torch.device("cpu"))
    journal = Journal(tmp_path / "logs", tensorboard=False)
    settings = procedural(tmp_path / "run", config, world_style="rich")
    run_procedural(settings, process, journal, only_autoencoder=True)
    trained = load_config(tmp_path / "run" / "model")
    assert trained.world_style == "rich"
    assert trained.autoencoder.latents_mean != SHORT.autoencoder.latents_mean
    # A decoder that goes on by itself leaves the latents and what is known of them.
    settings = procedural(
        tmp_path / "decoder", tmp_path / "run" / "model" / "config.json",
        start_from=str(tmp_path / "run" / "model"),
    )  # fmt: skip
    alone = dataclasses.replace(settings.autoencoder, decoder_only=True)
    settings = dataclasses.replace(settings, autoencoder=alone)
    run_procedural(settings, process, journal, only_autoencoder=True)
    decoder = load_config(tmp_path / "decoder" / "model")
    assert decoder.autoencoder == trained.autoencoder
    stream = WorldStream(2, process, style=trained.world_style, steps_at_once=2)
    assert stream.worlds(1).scenes.style == "rich"


@pytest.mark.slow
def test_a_procedural_run_in_legs_equals_an_unbroken_one(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(SHORT.to_json())
    process = Process(0, 1, torch.device("cpu"))
    journal = Journal(tmp_path / "logs", tensorboard=False)
    run_procedural(procedural(tmp_path / "whole", config, samples=True), process, journal)
    legs = procedural(tmp_path / "legs", config, leg_steps=2)
    for _ in range(5):
        run_procedural(legs, process, journal)
    for model in ("model", "few-step"):
        for file in ("config.json", "autoencoder.safetensors", "transformer.safetensors"):
            whole, pieces = (tmp_path / name / model / file for name in ("whole", "legs"))
            assert whole.read_bytes() == pieces.read_bytes(), (model, file)
    assert load_config(tmp_path / "whole" / "few-step").sampler.steps == 2
    assert len(list((tmp_path / "whole" / "samples").glob("*.mp4"))) == 1


def test_a_run_begins_with_given_weights(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(SHORT.to_json())
    torch.manual_seed(7)
    save_model_folder(
        tmp_path / "given", SHORT, transformer=Transformer(SHORT.transformer),
        autoencoder=Autoencoder(SHORT.autoencoder),
    )  # fmt: skip
    still = dataclasses.replace(  # a run that changes nothing
        procedural(tmp_path / "run", config, start_from=str(tmp_path / "given")),
        autoencoder=AutoencoderTraining(clips=2, worlds=1, learning_rate=0.0),
        autoencoder_length=Length(steps=1),
    )
    process = Process(0, 1, torch.device("cpu"))
    journal = Journal(tmp_path / "logs", tensorboard=False)
    run_procedural(still, process, journal, only_autoencoder=True)

    def weights(folder: str, part: str) -> dict[str, torch.Tensor]:
        return load_file(tmp_path / folder / f"{part}.safetensors")

    for name, value in weights("run/model", "autoencoder").items():
        assert torch.equal(value, weights("given", "autoencoder")[name].bfloat16()), name
    rates = {"matrix_rate": 0.0, "learning_rate": 0.0}
    still = dataclasses.replace(
        still, output=str(tmp_path / "other"), borrowed_autoencoder=str(tmp_path / "given"),
        transformer=TransformerTraining(worlds=1, draws=1, **rates),
        transformer_length=Length(steps=1), few_step_length=Length(),
    )  # fmt: skip
    run_procedural(still, process, journal)
    for name, value in weights("other/model", "transformer").items():
        assert torch.equal(value, weights("given", "transformer")[name].bfloat16()), name


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("borrowed_autoencoder", "autoencoder"), ("start_from", "autoencoder"),
        ("teacher", "autoencoder"), ("teacher", "transformer"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("harm", ["cut short", "of another size"])
def test_weights_that_cannot_be_used_are_named(field, part, harm, tmp_path: Path) -> None:
    config, given = tmp_path / "config.json", tmp_path / "given"
    config.write_text(SHORT.to_json())
    own = {"transformer": Transformer(SHORT.transformer)}
    own["autoencoder"] = Autoencoder(SHORT.autoencoder)
    save_model_folder(given, SHORT, **own)
    file = given / f"{part}.safetensors"
    if harm == "cut short":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        save_file({k: torch.zeros(2, *v.shape) for k, v in own[part].state_dict().items()}, file)
    settings = procedural(tmp_path / "run", config, **{field: str(given)})
    process = Process(0, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match=rf"given/{part}.safetensors (is trunc|does not fit)"):
        run_procedural(settings, process, Journal(tmp_path / "logs", tensorboard=False))
    assert not (tmp_path / "run" / "autoencoder.done").exists()


def test_a_transformer_to_begin_with_must_fit(tmp_path: Path) -> None:
    config, given = tmp_path / "config.json", tmp_path / "given"
    config.write_text(SHORT.to_json())
    save_model_folder(
        given, SHORT, transformer=torch.nn.Linear(2, 2), autoencoder=Autoencoder(SHORT.autoencoder)
    )
    settings = procedural(
        tmp_path / "run", config, borrowed_autoencoder=str(given), start_from=str(given)
    )
    process = Process(0, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"given/transformer.safetensors does not fit the model"):
        run_procedural(settings, process, Journal(tmp_path / "logs", tensorboard=False))


def test_a_run_goes_on_with_its_own_model_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(SHORT.to_json())
    process = Process(0, 1, torch.device("cpu"))
    journal = Journal(tmp_path / "logs", tensorboard=False)
    settings = procedural(tmp_path / "run", config, leg_steps=2)

    def go_on(**changes) -> None:
        own = dataclasses.replace(settings, **changes)
        run_procedural(own, process, journal, only_autoencoder=True)

    go_on()
    assert not (tmp_path / "run" / "autoencoder.done").exists()
    with pytest.raises(ValueError, match=r"another model: world_style is plain and was rich;"):
        go_on(world_style="plain")
    other = dataclasses.replace(
        SHORT, context_latents=9, sampler=dataclasses.replace(SHORT.sampler, steps=9),
        transformer=dataclasses.replace(SHORT.transformer, dim=96),
    )  # fmt: skip
    config.write_text(other.to_json())
    said = r"context_latents is 9 and was 8, transformer.dim is 96 and was 48; .*begun.json"
    with pytest.raises(ValueError, match=said):
        go_on()
    config.write_text(SHORT.to_json())
    go_on()
    assert (tmp_path / "run" / "autoencoder.done").exists()
    config.write_text(other.to_json())
    (tmp_path / "run" / "model.begun.json").unlink()  # as in runs from before it was written
    with pytest.raises(ValueError, match=r"transformer.dim is 96 and was 48; .*model/config.json"):
        go_on()
    go_on(model=str(tmp_path / "run" / "model" / "config.json"))


def test_what_is_distilled_goes_on_with_its_own_teacher_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(SHORT.to_json())
    process = Process(0, 1, torch.device("cpu"))
    journal = Journal(tmp_path / "logs", tensorboard=False)
    longer = dataclasses.replace(SHORT, context_latents=9)
    for name, model in (("one", SHORT), ("other", longer)):
        save_model_folder(
            tmp_path / name, model, transformer=Transformer(model.transformer),
            autoencoder=Autoencoder(model.autoencoder),
        )  # fmt: skip
    settings = procedural(tmp_path / "run", config, teacher=str(tmp_path / "one"), leg_steps=1)
    run_procedural(settings, process, journal)
    settings = dataclasses.replace(settings, teacher=str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"context_latents is 9 and was 8; .*few-step.begun.json"):
        run_procedural(settings, process, journal)


def test_a_run_that_never_began_may_change_its_model(tmp_path: Path) -> None:
    check_begun(tmp_path, SHORT)
    check_begun(tmp_path, CONFIG)
    (tmp_path / "autoencoder.run").touch()
    check_begun(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="begun with another model"):
        check_begun(tmp_path, SHORT)


@pytest.mark.slow
def test_a_run_makes_a_model_folder_goes_on_and_lends_its_autoencoder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(SHORT.to_json())
    journal = Journal(tmp_path / "run", leads=True)
    first = ProceduralRun(
        output=str(tmp_path / "run"), model=str(tmp_path / "config.json"), compiled=False,
        device="cpu", autoencoder_length=Length(seconds=1), transformer_length=Length(seconds=90),
        leg_seconds=1, autoencoder=AutoencoderTraining(worlds=1, clips=2),
        transformer=TransformerTraining(worlds=1),
    )  # fmt: skip
    process = Process(0, 1, torch.device("cpu"))
    run_procedural(first, process, journal)
    run = tmp_path / "run" / "transformer.run"
    steps = load_run(run, torch.device("cpu"))["step"]
    run_procedural(first, process, journal)
    assert load_run(run, torch.device("cpu"))["step"] > steps >= 1
    world = World.load(tmp_path / "run" / "model", device="cpu")
    assert world.config.autoencoder.latents_std != CONFIG.autoencoder.latents_std

    borrowed = dataclasses.replace(
        first, output=str(tmp_path / "other"), leg_seconds=0.1,
        borrowed_autoencoder=str(tmp_path / "run" / "model"),
    )  # fmt: skip
    run_procedural(borrowed, process, journal)
    files = [tmp_path / name / "model" / "autoencoder.safetensors" for name in ("run", "other")]
    assert files[0].read_bytes() == files[1].read_bytes()
