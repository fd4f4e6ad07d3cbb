# SPDX-License-Identifier: Apache-2.0
"""Rotary positions: what the products of turned queries and keys depend on."""

import math

import pytest
import torch

from hydra_model.config import TransformerConfig
from hydra_model.rays import ray_features
from hydra_model.rope import Rotation, ray_rotation, rotate, rotation, value_rotation
from hydra_model.transformer import Transformer

HEAD_DIM = 64
GRID = (3, 10)
FOV_X = math.radians(70)


def directions(*yaws: float) -> torch.Tensor:
    """Rays ``[1, F, h, w, 3]`` of cameras that were turned to the right by so many radians."""
    poses = torch.eye(4).repeat(1, len(yaws), 1, 1)
    for pose, yaw in zip(poses[0], yaws, strict=True):
        pose[0, 0] = pose[2, 2] = math.cos(yaw)
        pose[0, 2], pose[2, 0] = math.sin(yaw), -math.sin(yaw)
    features = ray_features(poses, grid=GRID, aspect=0.6, fov_x=FOV_X)
    return features[..., :3].unflatten(2, GRID)


def turned_by(looks: torch.Tensor, times: torch.Tensor) -> Rotation:
    rows, columns = (torch.arange(n) for n in GRID)
    return ray_rotation(times, rows, columns, looks, HEAD_DIM)


def products(by: Rotation) -> torch.Tensor:
    """Products of all tokens with each other where all hold the same query and key: [N, N]."""
    turned = rotate(torch.ones(1, by.cosine.shape[-2], 1, HEAD_DIM), by)[0, :, 0]
    return turned @ turned.T


def test_products_do_not_depend_on_where_the_first_camera_looks() -> None:
    times = torch.tensor([-3.0, 0.0])
    first = products(turned_by(directions(0.0, 0.5), times))
    # Turned by more than half a circle: azimuths of one of them have jumped by a whole one.
    other = products(turned_by(directions(2.9, 3.4), times))
    torch.testing.assert_close(other, first, atol=2e-3, rtol=0)
    assert (products(turned_by(directions(0.0, 0.9), times)) - first).abs().max() > 5


def test_a_token_meets_best_what_looked_its_way_before() -> None:
    # At equal times; the second camera is turned by three columns near the image's centre, whose
    # rays lie closer together at its edges.
    yaw = math.atan(math.tan(FOV_X / 2) * 6 / 10)
    looks = directions(0.0, yaw)
    by = turned_by(looks, torch.zeros(2))
    harmonics = slice(17, 22), slice(27, 32)  # of 12 + 5 + 5 + 5 + 5 channel pairs
    only = [torch.cat([t[..., part] for part in harmonics], -1) for t in (by.cosine[0], by.sine[0])]
    middle = GRID[0] // 2 * GRID[1]
    tokens = [torch.stack(only, -1).flatten(1)[i * 30 + middle :][: GRID[1]] for i in range(2)]
    best = (tokens[1] @ tokens[0].T).argmax(1)
    azimuths = [torch.atan2(t[..., 0], t[..., 2])[GRID[0] // 2] for t in looks[0]]
    nearest = (azimuths[1][:, None] - azimuths[0]).abs().argmin(1)
    inside = azimuths[1] < azimuths[0].max()
    assert inside.sum() >= 5
    assert torch.equal(best[inside], nearest[inside])


def test_the_fastest_pairs_and_those_of_time_stay_as_on_the_grid() -> None:
    times = torch.tensor([-2.5, 0.0])
    by = turned_by(directions(0.0, 0.5), times)
    rows, columns = (torch.arange(n) for n in GRID)
    plain = rotation(times, rows, columns, HEAD_DIM)
    for kept in (slice(0, 17), slice(22, 27)):
        assert torch.equal(by.cosine[0][:, kept], plain.cosine[:, kept])
        assert torch.equal(by.sine[0][:, kept], plain.sine[:, kept])


def test_memory_tokens_look_between_what_they_were_made_of() -> None:
    config = TransformerConfig(
        dim=64, num_heads=1, text_dim=0, memory_source="context", camera="rays",
        space_positions="rays", memory_stride=(2, 1, 1),
    )  # fmt: skip
    model = Transformer(config)
    times = torch.tensor([-2.0, -1.0])
    camera = directions(3.0, 3.3).flatten(2, 3)  # on both sides of the seam
    _, memory_by = model.rotations(times, GRID, camera)
    # The mean of two rays looks a little less high or low than they do.
    half, _ = model.rotations(torch.tensor([-1.5, -0.5]), GRID, directions(3.15, 0).flatten(2, 3))
    torch.testing.assert_close(memory_by.cosine, half.cosine[:, :30], atol=0.05, rtol=0)
    torch.testing.assert_close(memory_by.sine, half.sine[:, :30], atol=0.05, rtol=0)
    own, _ = model.rotations(times, GRID, camera)
    assert (own.cosine[:, :30] - memory_by.cosine).abs().max() > 0.5


def received(yaws: tuple[float, float], times: list[float]) -> torch.Tensor:
    """What each token of the second of two frames gets from each of the first, ``[N, N, D]``."""
    by = value_rotation(torch.tensor(times), directions(*yaws), HEAD_DIM)
    tokens = GRID[0] * GRID[1]
    value = torch.randn(HEAD_DIM, generator=torch.Generator().manual_seed(0))
    sent = rotate(value.expand(1, 2 * tokens, 1, HEAD_DIM), by)[:, :tokens]
    parts = []
    for token in range(tokens, 2 * tokens):
        own = Rotation(by.cosine[:, token, None], by.sine[:, token, None])
        parts.append(rotate(sent, own.back)[0, :, 0])
    return torch.stack(parts)


def test_values_arrive_turned_by_how_far_they_come() -> None:
    first = received((0.0, 0.3), [-3.0, 0.0])
    # Another camera to begin with, other times: the same distances. (float32 at 96 times 3 rad)
    torch.testing.assert_close(received((2.9, 3.2), [4.0, 7.0]), first, atol=1e-3, rtol=0)
    assert (received((0.0, 0.31), [-3.0, 0.0]) - first).abs().max() > 0.5
    assert (received((0.0, 0.3), [-4.0, 0.0]) - first).abs().max() > 0.5
    # From where it looks itself, at the same time, a token gets a value as it is.
    same = received((0.4, 0.4), [0.0, 0.0]).diagonal().T
    torch.testing.assert_close(same, same[:1].expand_as(same), atol=1e-5, rtol=0)
    still = slice(-16, None)  # the last eight pairs never turn
    assert torch.equal(first[..., still], first[:1, :1, still].expand_as(first[..., still]))


def test_values_by_rays_need_positions_by_rays() -> None:
    with pytest.raises(ValueError, match="value_positions 'rays' needs space_positions 'rays'"):
        TransformerConfig(memory_source="context", camera="rays", value_positions="rays")


@pytest.mark.parametrize("changes", [{"camera": "matrix"}, {"memory_source": "all"}])
def test_positions_by_rays_need_rays_and_a_context_of_their_own(changes) -> None:
    values = {"camera": "rays", "memory_source": "context", "space_positions": "rays", **changes}
    with pytest.raises(ValueError, match="space_positions 'rays' needs"):
        TransformerConfig(**values)
