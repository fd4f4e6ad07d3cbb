# SPDX-License-Identifier: Apache-2.0
"""The finer scale: single latent positions that retrieve from memory."""

import dataclasses

import pytest
import torch

from hydra_model.rays import camera_channels, token_cameras
from hydra_model.rope import ray_channels, rotate
from hydra_model.transformer import Transformer
from small_models import CONFIG

FORM = CONFIG.transformer
SIZE = (6, 10)  # latent positions of a frame


@torch.no_grad()
def random_transformer() -> Transformer:
    torch.manual_seed(0)
    model = Transformer(FORM).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.2)
    return model


def turned(count: int, first: float = 0.0) -> torch.Tensor:
    """Poses ``[1, count, 4, 4]`` of a camera that turns by 0.1 a frame."""
    poses = torch.eye(4).repeat(1, count, 1, 1)
    angle = first + 0.1 * torch.arange(count)
    poses[0, :, 0, 0] = poses[0, :, 2, 2] = angle.cos()
    poses[0, :, 0, 2] = angle.sin()
    poses[0, :, 2, 0] = -angle.sin()
    return poses


def detail_cameras(memory: int, frames: int) -> torch.Tensor:
    poses = torch.cat((turned(memory), turned(frames, 0.3)), 1)
    camera = token_cameras(CONFIG, poses, poses, fov_x=CONFIG.video.fov_x).detail
    assert camera is not None
    return camera


def test_each_latent_position_has_a_ray_of_its_own() -> None:
    poses = turned(2)
    tokens, detail = token_cameras(CONFIG, poses, poses, fov_x=CONFIG.video.fov_x)
    assert tokens.shape == (1, 2, 15, camera_channels("sweep"))
    assert detail is not None and detail.shape == (1, 2, 60, camera_channels("sweep"))
    # Four of them lie around a coarse token's ray.
    looks = detail[..., :3].view(1, 2, 3, 2, 5, 2, 3).mean((3, 5)).flatten(2, 3)
    directions = torch.nn.functional.normalize(looks, dim=-1)
    torch.testing.assert_close(directions, tokens[..., :3], atol=4e-3, rtol=0)
    coarse = dataclasses.replace(CONFIG, transformer=dataclasses.replace(FORM, detail=None))
    assert token_cameras(coarse, poses, poses, fov_x=1.0).detail is None


@torch.no_grad()
def test_what_it_adds_depends_on_single_positions_of_the_context() -> None:
    model = random_transformer()
    assert model.detail is not None
    finer = model.detail
    context = torch.randn(1, FORM.latent_channels, 5, *SIZE)
    of_context, tokens = torch.randn(1, 5, 3, 5, FORM.dim), torch.randn(1, 3, 3, 5, FORM.dim)
    time = torch.randn(1, FORM.dim)
    noisy = torch.randn(1, FORM.latent_channels, 3, *SIZE)
    # Memory frames by the coarse blocks, best first; each stands for two frames.
    retrieved = torch.tensor([1, 0]).repeat(1, 3, 1)

    def added(latents: torch.Tensor) -> torch.Tensor:
        detail = finer.prepare(
            latents, of_context, time, detail_cameras(5, 3),
            context_times=torch.arange(-5.0, 0.0), target_times=torch.arange(3.0),
        )  # fmt: skip
        assert [m.key.shape for m in detail.memories] == [(1, 5, 60, 24)] * 2
        return finer(noisy, tokens, time, detail, retrieved)

    def difference(frame: int) -> float:
        changed = context.clone()
        changed[:, :, frame, 2, 3] += 1
        return float((added(changed) - added(context)).abs().max())

    assert added(context).shape == noisy.shape
    # It takes the first two of the frames, and no others.
    assert difference(2) > 1e-4 and difference(3) > 1e-4
    assert difference(0) == difference(1) == difference(4) == 0


@torch.no_grad()
def test_positions_that_look_the_same_way_attend_to_each_other() -> None:
    """Whatever the camera did in between: with equal queries and keys the rays alone decide."""
    model = random_transformer()
    assert model.detail is not None
    finer = model.detail
    camera = token_cameras(CONFIG, turned(2), turned(2), fov_x=CONFIG.video.fov_x).detail
    assert camera is not None
    by = finer.rotation(torch.zeros(2), camera, torch.Size(SIZE))
    width = CONFIG.video.fov_x / SIZE[1]
    heads = torch.ones(1, 2 * 60, 1, finer.config.head_dim)
    # The channels of the rays alone, those of the image's rows and columns aside.
    placed = rotate(heads * ray_channels(finer.config.head_dim), by)[0, :, 0]
    first, second = placed.view(2, 60, -1)
    found = (second @ first.T).argmax(-1).view(SIZE)
    looks = camera[0, :, :, :3]
    azimuth = torch.atan2(looks[..., 0], looks[..., 2]).view(2, *SIZE)
    inside = (azimuth[1] < azimuth[0].max()) & (azimuth[1] > azimuth[0].min())
    error = (azimuth[0].flatten()[found] - azimuth[1]).abs()
    assert inside.sum() > 40
    assert error[inside].max() < width


@torch.no_grad()
def test_a_camera_that_is_missing_is_named() -> None:
    model = random_transformer()
    camera = torch.zeros(1, 5, 15, camera_channels("sweep"))
    with pytest.raises(ValueError, match="detail_camera is missing"):
        model.prepare(
            torch.zeros(1, FORM.latent_channels, 5, *SIZE), camera, camera[:, :3],
            context_times=torch.arange(-5.0, 0.0), target_times=torch.arange(3.0),
        )  # fmt: skip


def test_it_needs_rays() -> None:
    with pytest.raises(ValueError, match="detail scale needs space_positions 'rays', got 'grid'"):
        dataclasses.replace(FORM, space_positions="grid", value_positions="none")
