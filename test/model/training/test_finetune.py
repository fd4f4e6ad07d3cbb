# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning at tiny size: it learns, resumes exactly, and two processes are as one."""

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small_training import CONFIG

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import load_config, load_transformer
from hydra_model.training.distributed import Process
from hydra_model.training.finetune import FinetuneTraining, finetune
from hydra_model.training.hydra_objective import initialise_additions, trained_parts
from hydra_model.training.journal import Journal
from hydra_model.training.latent_batches import BatchStream, SyntheticClips
from hydra_model.transformer import Transformer

TRAINING = FinetuneTraining(
    steps=6, learning_rate=3e-3, warmup=2, log_every=1, save_every=2, sample_every=0,
    average_decay=0.9, timesteps=50,
)  # fmt: skip
ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module", autouse=True)
def no_group_left_behind():
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def start() -> Transformer:
    torch.manual_seed(1)
    model = Transformer(CONFIG.transformer)
    initialise_additions(model)
    return model


def run(folder: Path, training: FinetuneTraining = TRAINING, **options) -> list[float]:
    journal = Journal(folder, tensorboard=False)
    clips = SyntheticClips(CONFIG, 2)
    losses = finetune(
        CONFIG, start(), clips, training, ALONE, folder=folder, journal=journal, **options
    )
    journal.close()
    return losses


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_transformer(folder / "model").state_dict()


def test_the_loss_falls(tmp_path) -> None:
    training = dataclasses.replace(
        TRAINING, steps=80, trained="all", precision="float32", batch=4, save_every=0
    )
    losses = run(tmp_path, training)
    assert sum(losses[-20:]) < 0.8 * sum(losses[:20])


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_run_that_was_stopped_and_resumed_equals_an_unbroken_one(tmp_path, precision) -> None:
    training = dataclasses.replace(TRAINING, precision=precision)
    unbroken = run(tmp_path / "whole", training)
    first = run(tmp_path / "legs", training, leg_steps=3)
    second = run(tmp_path / "legs", training)
    assert first + second == unbroken
    whole, legs = weights(tmp_path / "whole"), weights(tmp_path / "legs")
    assert all(torch.equal(value, legs[name]) for name, value in whole.items())
    assert len(list((tmp_path / "whole").glob("checkpoint-*"))) == 2


def test_only_what_hydra_trains_has_moved(tmp_path) -> None:
    run(tmp_path)
    before = {k: v.bfloat16() for k, v in start().state_dict().items()}
    moved = {k for k, v in weights(tmp_path).items() if not torch.equal(v, before[k])}
    assert moved and all(trained_parts(name) for name in moved)
    assert any("tokenizer" in name for name in moved)
    assert any("camera_target" in name for name in moved)
    assert load_config(tmp_path / "model") == CONFIG


def test_checkpointing_changes_nothing(tmp_path) -> None:
    training = dataclasses.replace(TRAINING, precision="float32", steps=2)
    kept = run(tmp_path / "kept", dataclasses.replace(training, checkpointing=False))
    assert run(tmp_path / "again", training) == pytest.approx(kept, rel=1e-6)


def test_accumulated_batches_are_as_one_large_batch(tmp_path) -> None:
    training = dataclasses.replace(TRAINING, precision="float32", steps=2)
    large = run(tmp_path / "large", dataclasses.replace(training, batch=2))
    small = run(tmp_path / "small", dataclasses.replace(training, accumulate=2))
    assert small == pytest.approx(large, rel=1e-4)


def test_the_papers_form_can_be_fine_tuned_too(tmp_path) -> None:
    config = dataclasses.replace(
        CONFIG, transformer=dataclasses.replace(CONFIG.transformer, memory_source="context")
    )
    torch.manual_seed(1)
    model = Transformer(config.transformer)
    journal = Journal(tmp_path, tensorboard=False)
    losses = finetune(
        config, model, SyntheticClips(config), TRAINING, ALONE, folder=tmp_path, journal=journal
    )
    assert len(losses) == 6


def test_sample_videos_are_written_at_intervals(tmp_path) -> None:
    autoencoder = Autoencoder(CONFIG.autoencoder).prepare("cpu", torch.float32)
    training = dataclasses.replace(TRAINING, steps=4, sample_every=2, sample_steps=2)
    run(tmp_path, training, autoencoder=autoencoder)
    assert [p.name for p in sorted((tmp_path / "samples").iterdir())] == [
        "step-00000002.mp4", "step-00000004.mp4",
    ]  # fmt: skip


def test_a_damaged_checkpoint_is_named(tmp_path) -> None:
    run(tmp_path, leg_steps=2)
    [path] = tmp_path.glob("checkpoint-*")
    for file in path.glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"checkpoint-00000002 cannot be read .* delete it"):
        run(tmp_path)


def test_every_epoch_meets_every_clip_and_no_process_meets_anothers() -> None:
    clips = SyntheticClips(CONFIG, 6)
    streams = [
        BatchStream(clips, CONFIG, Process(rank, 2, torch.device("cpu")), batch=1, levels=10)
        for rank in range(2)
    ]
    epochs = [
        [s.batch(n).names[0] for n in range(start, start + 3) for s in streams]
        for start in (0, 3)
    ]  # fmt: skip
    for stream in streams:
        stream.close()
    assert [sorted(e) for e in epochs] == [[f"synthetic-{i}" for i in range(6)]] * 2
    assert epochs[0] != epochs[1]


def test_clips_of_another_size_are_refused_before_training(tmp_path) -> None:
    other = dataclasses.replace(CONFIG, chunk_latents=6)
    with pytest.raises(ValueError, match=r"synthetic-0: target latents are \(4, 6, 4, 6\)"):
        BatchStream(SyntheticClips(other), CONFIG, ALONE, batch=1, levels=10)
