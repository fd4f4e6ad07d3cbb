# SPDX-License-Identifier: Apache-2.0
"""Futures beside the live world, on a miniature model with random weights."""

import dataclasses

import numpy as np
import pytest
import torch

import small_models
from hydra_model.config import SceneFlowConfig
from hydra_model.imagination import Imagination, derived_seed, imagine, wanted_frames
from hydra_model.world import Cancelled, World

# Products of a batch are rounded otherwise; the frames' last bits follow.
LEVELS = 2


@pytest.fixture(scope="module", params=["context", "all", "scene flow"])
def folder(request, tmp_path_factory):
    """A model in the form of the default weights, before and with scene flow, or the released."""
    form = small_models.CONFIG.transformer
    if request.param == "all":
        form = dataclasses.replace(
            form, memory_source="all", relevance="positionwise", camera="rays",
            time_positions="slot", space_positions="grid", value_positions="none", detail=None,
        )  # fmt: skip
    if request.param == "scene flow":
        flow = SceneFlowConfig(after=1, hidden=16, num_blocks=1)
        form = dataclasses.replace(form, memory_stride=(1, 1, 1), scene_flow=flow)
    folder = tmp_path_factory.mktemp("model")
    small_models.write_model(folder, transformer=form)
    return folder


@pytest.fixture
def world(folder) -> World:
    world = World.load(folder, device="cpu", dtype="float32", seed=3)
    coarse = np.random.default_rng(0).integers(0, 256, (17, 6, 10, 3), dtype=np.uint8)
    world.reset(coarse.repeat(8, 1).repeat(8, 2), path(17))
    return world


def path(count: int, turn: float = 0.02) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i, pose in enumerate(poses):
        cos, sin = np.cos(turn * i), np.sin(turn * i)
        pose[:3, :3] = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
        pose[2, 3] = 0.05 * i
    return poses


def difference(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def stepped(world: World, state, poses: np.ndarray) -> np.ndarray:
    """The frames of ``World.step`` along a path of one or two chunks."""
    world.restore(state)
    longest = world.max_chunk_frames
    frames = [world.step(poses[i : i + longest]).frames for i in range(0, len(poses), longest)]
    return np.concatenate(frames)


def test_a_single_candidate_has_exactly_the_frames_of_stepping(world):
    state = world.state()
    (future,) = imagine(world, state, [path(9)])
    assert np.array_equal(future.frames, stepped(world, state, path(9)))


def test_a_batch_has_the_frames_of_stepping_each_path(world):
    state = world.state()
    paths = [path(18, turn) for turn in (0.0, 0.03, -0.03)] + [path(9, 0.05), path(5, 0.01)]
    futures = imagine(world, state, paths)
    assert [future.candidate for future in futures] == [0, 1, 2, 3, 4]
    for future, poses in zip(futures, paths, strict=True):
        assert difference(future.frames, stepped(world, state, poses)) <= LEVELS
        assert np.array_equal(future.poses, poses)


def test_the_live_world_is_not_touched(world):
    before = world.state()
    imagine(world, before, [path(9), path(5)], samples=2)
    assert world.state() is before


def test_a_future_goes_on_where_stepping_would_have_gone_on(world):
    state = world.state()
    (future,) = imagine(world, state, [path(18)])
    expected = stepped(world, state, np.concatenate([path(18), path(5, 0.04)]))
    world.restore(future.states[-1])
    assert future.ends == (9, 18)
    assert world.time == pytest.approx(18 / 15)
    assert np.array_equal(world.step(path(5, 0.04)).frames, expected[18:])


def test_samples_differ_and_each_can_be_had_again_by_its_seed(world):
    state = world.state()
    futures = imagine(world, state, [path(9), path(9, 0.05)], samples=3)
    assert [(f.candidate, f.sample) for f in futures] == [(c, s) for c in (0, 1) for s in range(3)]
    assert futures[0].seed == state.seed == 3
    assert len({future.seed for future in futures}) == 3
    assert not np.array_equal(futures[0].frames, futures[1].frames)
    again = dataclasses.replace(state, seed=derived_seed(3, 2))
    assert difference(stepped(world, again, path(9)), futures[2].frames) <= LEVELS


@pytest.mark.parametrize(
    ("every", "indices"), [(1, range(18)), (4, [3, 7, 11, 15, 17]), (9, [8, 17]), (0, [17])]
)
def test_only_the_wanted_frames_come_back(world, every, indices):
    state = world.state()
    (future,) = imagine(world, state, [path(18)], every=every)
    indices = list(indices)
    assert future.indices.tolist() == indices
    assert np.array_equal(future.poses, path(18)[indices])
    assert np.array_equal(future.frames, stepped(world, state, path(18))[indices])
    assert len(future.states) == 2


def test_every_chunk_is_reported_with_what_it_added(world):
    news = []
    paths = [path(18), path(18, 0.03), path(9)]
    work = Imagination(world, world.state(), paths, on_chunk=news.append, batch=2)
    for _ in work.slices():
        assert sum(part.ends[0] > 0 for parts in news for part in parts) <= work.frames_done
    assert work.frames_done == work.frames_total == 45
    assert work.widest == 2
    for future in work.results():
        parts = [part for parts in news for part in parts if part.candidate == future.candidate]
        assert np.array_equal(np.concatenate([part.frames for part in parts]), future.frames)


def test_giving_up_between_two_slices(world):
    slices = 0

    def cancelled() -> bool:
        nonlocal slices
        slices += 1
        return slices == 2

    with pytest.raises(Cancelled):
        imagine(world, world.state(), [path(9)], cancelled=cancelled)
    assert slices == 2


def test_where_memory_is_short_the_batch_is_halved(world, monkeypatch, caplog):
    state = world.state()
    paths = [path(9, turn) for turn in (0.0, 0.01, 0.02, 0.03, 0.04)]
    expected = imagine(world, state, paths, batch=1)
    forward = type(world.transformer).forward

    def with_little_memory(self, latents, *args, **kwargs):
        if len(latents) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, latents, *args, **kwargs)

    monkeypatch.setattr(type(world.transformer), "forward", with_little_memory)
    work = Imagination(world, state, paths)
    assert set(work.slices()) == {"context", "sampling", "decoding"}
    assert work.batch == 2
    assert "no memory for 5 candidates at once" in caplog.text
    for future, single in zip(work.results(), expected, strict=True):
        assert difference(future.frames, single.frames) <= LEVELS


def test_a_single_candidate_that_does_not_fit_fails(world, monkeypatch):
    def without_memory(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(world.transformer), "forward", without_memory)
    with pytest.raises(torch.OutOfMemoryError):
        imagine(world, world.state(), [path(9)])


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        ([], {}, "no candidate paths"),
        ([path(9), path(5) * np.nan], {}, r"path 1\[0\]"),
        ([path(9)], {"samples": 0}, "samples is 0"),
        ([path(9)], {"batch": 0}, "batch 0"),
    ],
)
def test_bad_arguments_are_refused_at_once(world, paths, options, message):
    with pytest.raises(ValueError, match=message):
        Imagination(world, world.state(), paths, **options)


def test_wanted_frames_always_hold_the_last():
    assert wanted_frames(5, 1).tolist() == [0, 1, 2, 3, 4]
    assert wanted_frames(5, 2).tolist() == [1, 3, 4]
    assert wanted_frames(5, 9).tolist() == [4]
