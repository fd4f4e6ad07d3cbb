# SPDX-License-Identifier: Apache-2.0
"""Training on a miniature model: the loss of a batch, the learning, and resuming."""

import dataclasses
from pathlib import Path

import pytest
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.procedural import Worlds
from hydra_model.rays import camera_channels
from hydra_model.training import transformer as transformer_training
from hydra_model.training.data import Batch, WorldStream
from hydra_model.training.distributed import Process
from hydra_model.training.initialisation import initialise
from hydra_model.training.state import Average, learning_rate_scale, load_run, save_run
from hydra_model.training.transformer import (
    Losses,
    TransformerTraining,
    batch_loss,
    keep_blocks,
    optimizers,
    train_transformer,
)
from hydra_model.transformer import Transformer
from small_trainings import CONFIG, NOTHING_SHOWN, SHORT

TRAINING = TransformerTraining(worlds=2, draws=2, matrix_rate=3e-3)


def random_batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    channels = camera_channels("rays")
    context = normal(2, 12, 4, 4, 6)
    return Batch(
        context, context.flip(2), normal(2, 4, 6, channels), normal(2, 4, 6, channels),
        torch.arange(4).double() - 4, torch.arange(4).double(), torch.ones(2, 1, 4, 4, 6),
        torch.zeros(2, 1, 4, 4, 6), NOTHING_SHOWN,
    )  # fmt: skip


def train(model: Transformer, rules: list, steps: range) -> list[float]:
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        loss = batch_loss(model, random_batch(), TRAINING, generator).weighted
        for rule in rules:
            rule.zero_grad()
        loss.backward()
        for rule in rules:
            rule.step()
        losses.append(loss.item())
    return losses


def test_the_loss_falls() -> None:
    torch.manual_seed(0)
    model = Transformer(CONFIG.transformer)
    initialise(model)
    losses = train(model, optimizers(model, TRAINING), range(60))
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def test_a_run_that_was_stopped_and_resumed_equals_an_unbroken_one(tmp_path: Path) -> None:
    def begin() -> tuple[Transformer, list, Average]:
        torch.manual_seed(0)
        model = Transformer(CONFIG.transformer)
        initialise(model)
        return model, optimizers(model, TRAINING), Average(model, 0.9)

    whole, rules, _ = begin()
    unbroken = train(whole, rules, range(6))

    model, rules, average = begin()
    train(model, rules, range(3))
    average.update(model)
    save_run(
        tmp_path / "run", model=model.state_dict(), average=average.state_dict(),
        optimizers=[rule.state_dict() for rule in rules],
    )  # fmt: skip
    model, rules, resumed = begin()
    saved = load_run(tmp_path / "run", torch.device("cpu"))
    assert saved is not None
    model.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["average"])
    for rule, values in zip(rules, saved["optimizers"], strict=True):
        rule.load_state_dict(values)
    assert train(model, rules, range(3, 6)) == unbroken[3:]
    assert all(torch.equal(v, resumed.weights[k]) for k, v in average.weights.items())


def test_there_is_nothing_to_resume_at_first(tmp_path: Path) -> None:
    assert load_run(tmp_path / "run", torch.device("cpu")) is None


@pytest.mark.parametrize("bytes_left", [0, 100, -100])
def test_a_damaged_state_is_named(bytes_left: int, tmp_path: Path) -> None:
    path = tmp_path / "transformer.run"
    save_run(path, step=3, model={"weight": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:bytes_left])
    with pytest.raises(ValueError, match=r"transformer.run cannot be read \(.+\); remove it to"):
        load_run(path, torch.device("cpu"))


def test_frames_in_which_a_subject_came_back_weigh_more() -> None:
    torch.manual_seed(0)
    model = Transformer(CONFIG.transformer)
    initialise(model)
    torch.nn.init.normal_(model.head.linear.weight, std=0.1)

    def weighted(returned: torch.Tensor, weight: float) -> float:
        training = dataclasses.replace(TRAINING, returned_weight=weight, subject_weight=1.0)
        batch = dataclasses.replace(random_batch(), returned=returned)
        losses = batch_loss(model, batch, training, torch.Generator().manual_seed(0))
        return losses.weighted.item()

    nowhere = torch.zeros(2, 1, 4, 4, 6)
    there = nowhere.clone()
    there[:, :, 3, 1, 2] = 1.0  # one position of a frame, and the whole frame counts
    assert weighted(nowhere, 9.0) == weighted(there, 1.0)
    # Linear in the weight, once it is no longer brought to mean 1.
    one, three, nine = ((1 + (w - 1) / 4) * weighted(there, w) for w in (1.0, 3.0, 9.0))
    assert (nine - one) / (three - one) == pytest.approx(4, rel=1e-3)
    assert three > one


def test_some_steps_are_on_plain_worlds(monkeypatch, tmp_path: Path) -> None:
    met: list[tuple[str, int]] = []

    class Stream(WorldStream):
        def worlds(self, step: int) -> Worlds:
            met.append((self.style, step))
            return super().worlds(step)

    monkeypatch.setattr("hydra_model.training.data.WorldStream", Stream)
    train_transformer(
        dataclasses.replace(SHORT, world_style="rich"),
        TransformerTraining(worlds=1, draws=1, plain_share=0.5),
        Autoencoder(SHORT.autoencoder).prepare("cpu", torch.float32),
        Process(0, 1, torch.device("cpu")), folder=tmp_path, seconds=600, total_seconds=600,
        total_steps=4, compiled=False,
    )  # fmt: skip
    assert met == [("rich", 0), ("plain", 0), ("rich", 2), ("plain", 1)]


def test_the_balance_of_frames_leaves_subjects_their_weight() -> None:
    torch.manual_seed(0)
    model = Transformer(CONFIG.transformer)
    initialise(model)
    torch.nn.init.normal_(model.head.linear.weight, std=0.1)

    def losses(power: float, subject: torch.Tensor) -> Losses:
        training = dataclasses.replace(TRAINING, frame_balance=power)
        batch = dataclasses.replace(random_batch(), subject=subject)
        return batch_loss(model, batch, training, torch.Generator().manual_seed(0))

    nowhere = torch.zeros(2, 1, 4, 4, 6)
    plain, balanced = losses(0.0, nowhere), losses(1.0, nowhere)
    assert plain.plain == balanced.plain
    assert balanced.weighted != plain.weighted
    everywhere = torch.ones(2, 1, 4, 4, 6)
    expected = losses(0.0, everywhere).weighted.item()
    assert losses(1.0, everywhere).weighted.item() == pytest.approx(expected)


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    scale = [learning_rate_scale(step, 1000, warmup=100, decay=0.3) for step in range(1001)]
    assert scale[0] == 0.01 and scale[100] == scale[699] == 1.0
    assert scale[850] == pytest.approx(0.5) and scale[1000] == 0.0


def test_a_run_begins_with_the_worlds_of_its_first_step(monkeypatch, tmp_path: Path) -> None:
    met: list[int] = []

    class Stream(WorldStream):
        def worlds(self, step: int) -> Worlds:
            met.append(step)
            return super().worlds(step)

    monkeypatch.setattr("hydra_model.training.data.WorldStream", Stream)
    train_transformer(
        SHORT, TransformerTraining(worlds=1, draws=1, first_step=70, plain_share=0.0),
        Autoencoder(SHORT.autoencoder).prepare("cpu", torch.float32),
        Process(0, 1, torch.device("cpu")), folder=tmp_path, seconds=600, total_seconds=600,
        total_steps=2, compiled=False,
    )  # fmt: skip
    assert met == [70, 71]


def test_a_leg_that_begins_between_two_rows_of_the_log_has_true_means(
    monkeypatch, tmp_path: Path
) -> None:
    def two(model: Transformer, *_) -> Losses:
        nothing = 0 * model.head.linear.bias.sum()
        return Losses(*(nothing + 2.0 for _ in Losses._fields))

    monkeypatch.setattr(transformer_training, "batch_loss", two)
    monkeypatch.setattr(transformer_training, "procedural_batch", lambda *_: None)
    told: list[dict[str, float]] = []
    for _ in range(2):
        train_transformer(
            SHORT, TransformerTraining(worlds=1), Autoencoder(SHORT.autoencoder),
            Process(0, 1, torch.device("cpu")), folder=tmp_path, seconds=600, total_seconds=600,
            total_steps=100, leg_steps=70, compiled=False, record=told.append,
        )  # fmt: skip
    assert [row["step"] for row in told] == [50, 100]
    assert [row["loss"] for row in told] == [row["flow"] for row in told] == [2.0, 2.0]


def test_kept_blocks_and_what_is_read_off_them_stay_as_they_are(tmp_path: Path) -> None:
    assert SHORT.transformer.scene_flow is not None
    following = dataclasses.replace(SHORT.transformer.scene_flow, tracks=2, emphasis=1.5)
    transformer = dataclasses.replace(SHORT.transformer, scene_flow=following)
    config = dataclasses.replace(SHORT, transformer=transformer)
    torch.manual_seed(0)
    begin = Transformer(transformer)
    initialise(begin)
    torch.nn.init.normal_(begin.head.linear.weight, std=0.1)

    def changed(kept: int) -> set[str]:
        weights, _ = train_transformer(
            config,
            TransformerTraining(worlds=2, draws=1, known_share=0.5, kept_blocks=kept),
            Autoencoder(config.autoencoder).prepare("cpu", torch.float32),
            Process(0, 1, torch.device("cpu")), folder=tmp_path / str(kept), seconds=600,
            total_seconds=600, total_steps=2, compiled=False, begin=begin.state_dict(),
        )  # fmt: skip
        own = begin.state_dict()
        return {name for name, value in weights.items() if not torch.equal(value, own[name])}

    for kept in (0, 1):
        (tmp_path / str(kept)).mkdir()
    assert {name.split(".")[0] for name in changed(0)} >= {"patch_embedding", "time_embedding"}
    above = changed(1)
    assert {name.split(".")[0] for name in above} == {"blocks", "head", "detail"}
    assert {name.split(".")[1] for name in above if name.startswith("blocks.")} == {"1"}
    with pytest.raises(ValueError, match="kept_blocks is 3, the model has 2 blocks"):
        keep_blocks(begin, 3)


def test_the_balance_of_channels_reaches_what_is_learned(tmp_path: Path) -> None:
    """Runs are alike but for what their errors weigh."""
    torch.manual_seed(0)
    begin = Transformer(SHORT.transformer)
    initialise(begin)
    torch.nn.init.normal_(begin.head.linear.weight, std=0.1)
    torch.manual_seed(1)
    autoencoder = Autoencoder(SHORT.autoencoder).prepare("cpu", torch.float32)

    def trained(folder: str, balance: float) -> dict[str, torch.Tensor]:
        (tmp_path / folder).mkdir()
        training = TransformerTraining(worlds=1, draws=1, channel_balance=balance)
        return train_transformer(
            SHORT, training, autoencoder, Process(0, 1, torch.device("cpu")),
            folder=tmp_path / folder, seconds=600, total_seconds=600, total_steps=1,
            compiled=False, begin=begin.state_dict(),
        )[0]  # fmt: skip

    plain, again, balanced = trained("a", 0.0), trained("b", 0.0), trained("c", 1.0)
    assert all(torch.equal(value, again[name]) for name, value in plain.items())
    assert not all(torch.equal(value, balanced[name]) for name, value in plain.items())
