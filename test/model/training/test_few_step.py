# SPDX-License-Identifier: Apache-2.0
"""Distillation at tiny size: few steps of the student end where many of its teacher's do."""

import dataclasses
import random

import pytest
import torch

from hydra_model.config import DEFAULT, SceneFlowConfig
from hydra_model.rays import camera_channels
from hydra_model.sampler import schedule
from hydra_model.training.data import Batch
from hydra_model.training.few_step import FewStepTraining, distillation_loss, euler, levels
from hydra_model.training.initialisation import initialise
from hydra_model.training.transformer import TransformerTraining, batch_loss, optimizers
from hydra_model.transformer import Conditioning, Transformer
from small_trainings import NOTHING_SHOWN

SMALL = dataclasses.replace(
    DEFAULT.transformer, dim=32, num_heads=2, ffn_dim=64, num_blocks=1, freq_dim=16,
    latent_channels=4, detail=None, scene_flow=None,
)  # fmt: skip
TRAINING = FewStepTraining(steps=2, substeps=4, draws=2, matrix_rate=2e-3, learning_rate=1e-3)
SHIFT = 3.0


def batch(target: torch.Tensor | None = None) -> Batch:
    """Two worlds whose target is the context played backwards."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    channels = camera_channels(DEFAULT.transformer.camera)
    context = normal(2, 4, 4, 4, 6)
    return Batch(
        context, context.flip(2) if target is None else target, normal(2, 4, 6, channels),
        normal(2, 4, 6, channels), torch.arange(4).double() - 4, torch.arange(4).double(),
        torch.ones(2, 1, 4, 4, 6), torch.zeros(2, 1, 4, 4, 6), NOTHING_SHOWN,
    )  # fmt: skip


@pytest.fixture(scope="module")
def teacher() -> Transformer:
    """A teacher that has learned two futures of each world: few Euler steps blur them."""
    torch.manual_seed(0)
    model = Transformer(SMALL)
    initialise(model)
    own = TransformerTraining(draws=2, matrix_rate=3e-3, context_noise=0.0)
    rules = optimizers(model, own)
    first = batch()
    other = batch(-first.target)
    for step in range(80):
        loss = batch_loss(
            model, other if step % 2 else first, own, torch.Generator().manual_seed(step)
        ).weighted
        for rule in rules:
            rule.zero_grad()
        loss.backward()
        for rule in rules:
            rule.step()
    return model.requires_grad_(False)


def conditioning(model: Transformer) -> Conditioning:
    world = batch()
    return model.prepare(
        world.context, world.context_camera, world.target_camera,
        context_times=world.context_times, target_times=world.target_times,
    )  # fmt: skip


@torch.no_grad()
def sampled(model: Transformer, steps: int, noise: torch.Tensor) -> torch.Tensor:
    return euler(model, noise, [*schedule(steps, SHIFT).tolist(), 0.0], conditioning(model))


def test_the_students_levels_are_among_the_teachers() -> None:
    fine = levels(FewStepTraining(steps=4, substeps=3), SHIFT)
    assert fine[::3] == pytest.approx([*schedule(4, SHIFT).tolist(), 0.0])
    assert len(fine) == 13


def test_few_steps_come_near_where_the_teachers_many_lead(teacher) -> None:
    student = Transformer(SMALL)
    student.load_state_dict(teacher.state_dict())
    rules = optimizers(
        student, TransformerTraining(matrix_rate=2e-3, learning_rate=1e-3, weight_decay=0.0)
    )
    noise = torch.randn(2, 4, 4, 4, 6, generator=torch.Generator().manual_seed(9))
    goal = sampled(teacher, 8, noise)
    before = (sampled(student, 2, noise) - goal).square().mean()
    losses = []
    training = dataclasses.replace(TRAINING, context_noise=0.0)
    for step in range(80):
        loss, _ = distillation_loss(
            student, teacher, batch(), training, SHIFT, torch.Generator().manual_seed(step),
            random.Random(step),
        )  # fmt: skip
        for rule in rules:
            rule.zero_grad()
        loss.backward()
        for rule in rules:
            for group in rule.param_groups:
                group["lr"] *= 0.98
            rule.step()
        losses.append(loss.item())
    after = (sampled(student, 2, noise) - goal).square().mean()
    print(f"distance to the teacher's samples: {before:.4f} before, {after:.4f} after")
    assert sum(losses[-30:]) < 0.6 * sum(losses[:30])
    assert after < 0.5 * before


def test_a_student_that_is_as_its_teacher_has_no_loss_at_one_substep(teacher) -> None:
    loss, plain = distillation_loss(
        teacher, teacher, batch(), dataclasses.replace(TRAINING, substeps=1), SHIFT,
        torch.Generator().manual_seed(0), random.Random(0),
    )  # fmt: skip
    assert loss.item() < 1e-3 and plain.item() < 1e-3


@pytest.mark.parametrize("field", ["steps", "substeps", "worlds", "draws"])
def test_wrong_settings_are_named(field) -> None:
    with pytest.raises(ValueError, match=f"{field} is 0; accepted is 1 or more"):
        FewStepTraining(**{field: 0})


def test_a_students_scene_flow_is_held_to_what_is_true() -> None:
    torch.manual_seed(0)
    flow = SceneFlowConfig(after=1, hidden=8, num_blocks=0)
    student = Transformer(dataclasses.replace(SMALL, scene_flow=flow))
    initialise(student)
    own = student.scene_flow
    assert own is not None

    def slope(weight: float) -> float:
        student.zero_grad()
        loss, _ = distillation_loss(
            student, student, batch(), dataclasses.replace(TRAINING, flow_weight=weight), SHIFT,
            torch.Generator().manual_seed(0), random.Random(0),
        )  # fmt: skip
        loss.backward()
        return float(own.leave.bias.grad.abs().max())

    assert slope(0.2) > 1e-3
    assert slope(0.0) == 0
