# SPDX-License-Identifier: Apache-2.0
"""Worlds of the style "plain" are for ever what they were when the shipped weights were trained.

``plain_worlds.npz`` holds what the renderer drew of four seeds before there was another style.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from hydra_model.procedural import render_worlds, sample_worlds


@pytest.fixture(scope="module")
def expected():
    return np.load(Path(__file__).with_name("plain_worlds.npz"))


def test_a_seed_draws_the_same_world(expected):
    scenes = sample_worlds(expected["seeds"].tolist()).scenes
    yaw = scenes.block_yaw[..., None]
    blocks = torch.cat([scenes.block_centre, scenes.block_half, yaw], -1).numpy()
    np.testing.assert_allclose(blocks, expected["blocks"], atol=1e-5)
    times = torch.tensor([-60.0, -3.0, 4.0], dtype=torch.float64)
    np.testing.assert_allclose(scenes.motion.position(times), expected["positions"], atol=1e-5)


def test_a_world_looks_the_same(expected):
    worlds = sample_worlds(expected["seeds"].tolist(), style="plain")
    times = torch.from_numpy(expected["times"])
    frames, poses, ids = render_worlds(worlds, times, height=24, width=40)
    np.testing.assert_allclose(poses, expected["poses"], atol=1e-5)
    # Processors round sines differently: the last bit may change, and a ray at an edge.
    off = np.abs(frames.numpy().astype(int) - expected["frames"].astype(int)).max(-1)
    assert (off > 1).mean() < 1e-3 and (off > 0).mean() < 0.01
    assert (ids.numpy() != expected["ids"]).mean() < 1e-3


def test_another_style_is_another_world_and_a_wrong_one_is_named(expected):
    seeds = expected["seeds"].tolist()
    rich, plain = (sample_worlds(seeds, style=style).scenes for style in ("rich", "plain"))
    assert rich.block_half.shape[1] > plain.block_half.shape[1]
    with pytest.raises(ValueError, match="plain, rich"):
        sample_worlds(seeds, style="fancy")
