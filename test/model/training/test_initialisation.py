# SPDX-License-Identifier: Apache-2.0
"""What training begins with: weights of models that had less."""

import dataclasses

import pytest
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.procedural import sample_worlds
from hydra_model.rays import camera_channels
from hydra_model.training.data import procedural_batch
from hydra_model.training.initialisation import initialise, widened
from hydra_model.training.layouts import contiguous
from hydra_model.training.scene_flow import scene_flow_loss
from hydra_model.training.transformer import Losses, TransformerTraining, batch_loss
from hydra_model.transformer import Transformer
from small_trainings import CONFIG, FINE, FLOWING, SWEEP

TRAINING = TransformerTraining(worlds=2, draws=2, matrix_rate=3e-3)


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
    # So is what is missed of subjects, and subjects may be where they truly are in every world.
    assert batch.forecast.met is not None and batch.forecast.met.in_view.any()

    def losses_of(**changes: float) -> Losses:
        generator.manual_seed(0)
        return batch_loss(flowing, batch, dataclasses.replace(training, **changes), generator)

    known = losses_of(known_share=1.0)
    assert losses_of(known_share=1.0, met_weight=0.5).flow > 1.01 * known.flow
    assert losses_of(known_share=1.0, met_weight=0.5).weighted == known.weighted
    assert torch.isfinite(known.weighted) and known.weighted != losses_of(known_share=1e-9).weighted
    assert losses_of(met_weight=0.5, known_share=1.0).flow == losses_of(met_weight=0.5).flow


def test_weights_that_were_told_something_else_of_the_cameras_are_refused() -> None:
    matrix = dataclasses.replace(
        CONFIG.transformer, camera="matrix", space_positions="grid", value_positions="none"
    )
    sweep = Transformer(SWEEP.transformer)
    with pytest.raises(RuntimeError, match="camera_context"):
        sweep.load_state_dict(widened(Transformer(matrix).state_dict(), sweep))
