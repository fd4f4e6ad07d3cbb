# SPDX-License-Identifier: Apache-2.0
"""Training on a miniature model: the loss of a batch, the learning, and resuming."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import load_config, save_model_folder
from hydra_model.conditioning import condition
from hydra_model.config import DEFAULT, DetailConfig, SceneFlowConfig
from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.procedural import Worlds, sample_worlds
from hydra_model.rays import camera_channels
from hydra_model.training import transformer as transformer_training
from hydra_model.training.autoencoder import AutoencoderTraining
from hydra_model.training.data import Batch, WorldStream, latent_mask, procedural_batch
from hydra_model.training.distributed import Process
from hydra_model.training.few_step import FewStepTraining
from hydra_model.training.initialisation import initialise, widened
from hydra_model.training.journal import Journal
from hydra_model.training.layouts import contiguous, with_gaps
from hydra_model.training.procedural_run import Length, ProceduralRun, run_procedural
from hydra_model.training.state import Average, learning_rate_scale, load_run, save_run
from hydra_model.training.transformer import (
    Losses,
    TransformerTraining,
    batch_loss,
    optimizers,
    scene_flow_loss,
    train_transformer,
)
from hydra_model.training.whereabouts import Forecast
from hydra_model.transformer import Transformer
from hydra_model.world import World

CONFIG = dataclasses.replace(
    DEFAULT,
    video=dataclasses.replace(DEFAULT.video, height=32, width=48),
    autoencoder=dataclasses.replace(DEFAULT.autoencoder, base_dim=8),
    transformer=dataclasses.replace(
        DEFAULT.transformer, dim=48, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16,
        camera="rays", detail=None, scene_flow=None,
    ),
)
DETAIL = DetailConfig(dim=24, num_heads=2, ffn_dim=48, num_blocks=2, top_k=3)
SWEEP = dataclasses.replace(
    CONFIG, transformer=dataclasses.replace(CONFIG.transformer, camera="sweep")
)
FINE = dataclasses.replace(
    SWEEP, transformer=dataclasses.replace(SWEEP.transformer, detail=DETAIL)
)
FLOWING = dataclasses.replace(
    FINE,
    transformer=dataclasses.replace(
        FINE.transformer, scene_flow=SceneFlowConfig(after=1, hidden=16, num_blocks=1)
    ),
)
SHORT = dataclasses.replace(FLOWING, context_latents=8, chunk_latents=8)
TRAINING = TransformerTraining(worlds=2, draws=2, matrix_rate=3e-3)


NOTHING_SHOWN = Forecast(
    torch.zeros(2, 3, 4, 2, 3), torch.zeros(2, 3, 5, 3), torch.zeros(2, 3, 4, 5),
    torch.ones(2, 4, 2, 3), pixels=1024,
)  # fmt: skip


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

    monkeypatch.setattr(transformer_training, "WorldStream", Stream)
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


def test_masks_cover_the_frames_of_each_latent() -> None:
    present = torch.zeros(1, 1, 9, 2, 2, dtype=torch.bool)
    present[0, 0, 5, 1, 0] = True
    mask = latent_mask(present)
    assert mask.shape == (1, 1, 3, 2, 2)
    assert mask.nonzero().tolist() == [[0, 0, 2, 1, 0]]


def test_the_rate_warms_up_stays_and_falls_to_zero() -> None:
    scale = [learning_rate_scale(step, 1000, warmup=100, decay=0.3) for step in range(1001)]
    assert scale[0] == 0.01 and scale[100] == scale[699] == 1.0
    assert scale[850] == pytest.approx(0.5) and scale[1000] == 0.0


def test_a_procedural_batch_is_made_as_the_simulator_makes_its_context() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(CONFIG.autoencoder).prepare("cpu", torch.float32)
    layout = contiguous((2, 2), 3)
    batch = procedural_batch(CONFIG, autoencoder, layout, sample_worlds([5, 6]))
    assert batch.context.shape == (2, 12, 4, 4, 6)
    assert batch.target.shape == (2, 12, 3, 4, 6)
    assert batch.context_camera.shape == (2, 4, 6, camera_channels("rays"))
    assert (batch.context_times * 4).tolist() == [-10, -6, -5, -1]
    assert batch.target_times.tolist() == [0, 1, 2]
    # The first target frame is the reference: its camera stands at the origin.
    assert batch.target_camera[:, 0, :, 3:6].abs().max() < 1e-6


@pytest.mark.parametrize("config", [CONFIG, SWEEP], ids=["rays", "sweep"])
def test_a_cut_run_is_encoded_as_a_part_of_a_longer_clip(config) -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(config.autoencoder).prepare("cpu", torch.float32)
    worlds = sample_worlds([5, 6])
    whole = procedural_batch(config, autoencoder, contiguous((3,), 3), worlds)
    cut = procedural_batch(config, autoencoder, contiguous((2,), 3, cut_first=True), worlds)
    torch.testing.assert_close(cut.context, whole.context[:, :, 1:])
    torch.testing.assert_close(cut.context_camera, whole.context_camera[:, 1:])
    assert torch.equal(cut.context_times, whole.context_times[1:])


def test_a_camera_that_stands_still_in_a_gap_sees_the_same_places_again() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(CONFIG.autoencoder).prepare("cpu", torch.float32)
    worlds = sample_worlds([5, 6])
    near = procedural_batch(CONFIG, autoencoder, with_gaps(((2, 0),), 2, 3), worlds)
    held = procedural_batch(CONFIG, autoencoder, with_gaps(((2, 40),), 2, 3, held=True), worlds)
    left = procedural_batch(CONFIG, autoencoder, with_gaps(((2, 40),), 2, 3), worlds)
    torch.testing.assert_close(held.context_camera, near.context_camera)
    torch.testing.assert_close(held.context[:, :, 2:], near.context[:, :, 2:])
    assert (held.context_camera - left.context_camera).abs().max() > 0.01
    # Time goes on all the same, and those who walk are elsewhere.
    assert torch.equal(held.context_times, left.context_times)
    assert (held.context - near.context)[:, :, :2].abs().max() > 0.01


def test_training_and_simulator_tell_of_the_same_sweep() -> None:
    torch.manual_seed(0)
    autoencoder = Autoencoder(SWEEP.autoencoder).prepare("cpu", torch.float32)
    worlds = sample_worlds([5])
    batch = procedural_batch(SWEEP, autoencoder, with_gaps(((2, 7),), 2, 3), worlds)
    # The same as a memory of one clip: its latent frames -21, -17, ... of which some are chosen.
    past, targets = range(-21, 0, 4), range(0, 12, 4)
    times, target_times = ((torch.tensor(own).double() + 1) / 15 for own in (past, targets))
    poses = worlds.trajectories.poses(times)[0].numpy()
    latents = Latents(torch.zeros(12, len(past), 4, 6))
    bank = MemoryBank([Segment(latents, poses, times.numpy(), "observed")])
    context = bank.gather([past.index(frame) for frame in (-17, -13, -5, -1)])
    made = condition(
        Transformer(SWEEP.transformer).requires_grad_(False), SWEEP, context,
        worlds.trajectories.poses(target_times).numpy(), target_times.numpy(),
        fov_x=SWEEP.video.fov_x, text=None,
    )  # fmt: skip
    assert batch.context_camera.shape[-1] == camera_channels("sweep")
    torch.testing.assert_close(made.context_camera, batch.context_camera, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.target_camera, batch.target_camera, rtol=1e-4, atol=1e-5)
    moved = batch.target_camera[..., :3] - batch.target_camera[..., -9:-6]
    assert moved[:, 0].abs().max() == 0 and moved[:, 1:].abs().amax((0, 2, 3)).min() > 1e-4


def test_weights_for_rays_predict_the_same_when_they_are_told_of_the_sweep() -> None:
    torch.manual_seed(0)
    rays, sweep = Transformer(CONFIG.transformer), Transformer(SWEEP.transformer)
    torch.nn.init.normal_(rays.head.linear.weight, std=0.1)
    sweep.load_state_dict(widened(rays.state_dict(), sweep))
    autoencoder = Autoencoder(SWEEP.autoencoder).prepare("cpu", torch.float32)
    told = procedural_batch(SWEEP, autoencoder, contiguous((4,), 3), sample_worlds([5]))
    velocities = []
    for model, channels in ((rays, camera_channels("rays")), (sweep, camera_channels("sweep"))):
        conditioning = model.prepare(
            told.context, told.context_camera[..., :channels], told.target_camera[..., :channels],
            context_times=told.context_times, target_times=told.target_times,
        )  # fmt: skip
        velocities.append(model(told.target, torch.tensor([0.5]), conditioning)[0])
    torch.testing.assert_close(velocities[0], velocities[1])


def test_weights_without_a_detail_scale_predict_the_same_when_they_get_one() -> None:
    torch.manual_seed(0)
    coarse, fine = Transformer(SWEEP.transformer), Transformer(FINE.transformer)
    initialise(fine)
    torch.nn.init.normal_(coarse.head.linear.weight, std=0.1)
    fine.load_state_dict(widened(coarse.state_dict(), fine))
    autoencoder = Autoencoder(FINE.autoencoder).prepare("cpu", torch.float32)
    told = procedural_batch(FINE, autoencoder, contiguous((4,), 3), sample_worlds([5]))

    def velocity(model: Transformer) -> torch.Tensor:
        conditioning = model.prepare(
            told.context, told.context_camera, told.target_camera,
            context_times=told.context_times, target_times=told.target_times,
            detail_camera=told.detail_camera,
        )  # fmt: skip
        return model(told.target, torch.tensor([0.5]), conditioning)

    assert torch.equal(velocity(fine), velocity(coarse))
    # What is added has a gradient at once, though it begins at nothing.
    velocity(fine).square().mean().backward()
    assert fine.detail is not None
    assert fine.detail.head.linear.weight.grad.abs().max() > 0
    own = fine.state_dict()
    assert widened(own, fine) == own


def test_a_scene_flow_begins_with_nothing_that_moves_and_is_learned() -> None:
    torch.manual_seed(0)
    still, flowing = Transformer(FINE.transformer), Transformer(FLOWING.transformer)
    initialise(flowing)
    flowing.load_state_dict(widened(still.state_dict(), flowing))
    own = flowing.scene_flow
    assert own is not None
    autoencoder = Autoencoder(FINE.autoencoder).prepare("cpu", torch.float32)
    batch = procedural_batch(FLOWING, autoencoder, contiguous((8,), 3), sample_worlds([5, 6]))
    features: list[torch.Tensor] = []
    flowing.prepare(
        batch.context, batch.context_camera, batch.target_camera, features=features,
        context_times=batch.context_times, target_times=batch.target_times,
        detail_camera=batch.detail_camera,
    )  # fmt: skip
    flows = own(features[own.after - 1], batch.context_camera)
    assert all(flow is not None and flow.displacement.abs().max() == 0 for flow in flows)
    assert batch.forecast.positions is not None
    seen = -batch.forecast.near.log()  # metres to sky, walls and ground, as logarithms
    assert 1 < seen.min() < 2.7 < seen.max()
    rule = torch.optim.AdamW(own.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = scene_flow_loss(flowing, [f.detach() for f in features], batch)
        rule.zero_grad()
        loss.backward()
        rule.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    # It is a part of what a training step optimises, for the blocks below it as well.
    training = dataclasses.replace(TRAINING, context_noise=0.0)
    generator = torch.Generator().manual_seed(0)
    told = batch_loss(flowing, batch, training, generator).flow
    flowing.zero_grad()
    told.backward()
    assert flowing.layers[0].ffn[0].weight.grad.abs().max() > 0
    assert flowing.layers[1].ffn[0].weight.grad is None
    assert batch_loss(still, batch, training, generator).flow == 0


def test_weights_that_were_told_something_else_of_the_cameras_are_refused() -> None:
    matrix = dataclasses.replace(
        CONFIG.transformer, camera="matrix", space_positions="grid", value_positions="none"
    )
    sweep = Transformer(SWEEP.transformer)
    with pytest.raises(RuntimeError, match="camera_context"):
        sweep.load_state_dict(widened(Transformer(matrix).state_dict(), sweep))


def procedural(folder: Path, config: Path, **changes) -> ProceduralRun:
    lengths = {"autoencoder_length": 3, "transformer_length": 3, "few_step_length": 3}
    return ProceduralRun(
        output=str(folder), model=str(config), device="cpu", compiled=False,
        autoencoder=AutoencoderTraining(clips=2, worlds=1),
        transformer=TransformerTraining(worlds=1, draws=2),
        few_step=FewStepTraining(steps=2, substeps=2, worlds=1, draws=1),
        **{name: Length(steps=steps) for name, steps in lengths.items()}, **changes,
    )  # fmt: skip


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


def test_a_run_begins_with_the_worlds_of_its_first_step(monkeypatch, tmp_path: Path) -> None:
    met: list[int] = []

    class Stream(WorldStream):
        def worlds(self, step: int) -> Worlds:
            met.append(step)
            return super().worlds(step)

    monkeypatch.setattr(transformer_training, "WorldStream", Stream)
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
