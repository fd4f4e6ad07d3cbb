# SPDX-License-Identifier: Apache-2.0
"""Batches of procedural worlds: made as the simulator makes its context."""

import pytest
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.conditioning import condition
from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.procedural import sample_worlds
from hydra_model.rays import camera_channels
from hydra_model.training.data import latent_mask, procedural_batch
from hydra_model.training.layouts import contiguous, with_gaps
from hydra_model.transformer import Transformer
from small_trainings import CONFIG, SWEEP


def test_masks_cover_the_frames_of_each_latent() -> None:
    present = torch.zeros(1, 1, 9, 2, 2, dtype=torch.bool)
    present[0, 0, 5, 1, 0] = True
    mask = latent_mask(present)
    assert mask.shape == (1, 1, 3, 2, 2)
    assert mask.nonzero().tolist() == [[0, 0, 2, 1, 0]]


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
