# SPDX-License-Identifier: Apache-2.0
"""The simulator without ROS, on a miniature model with random weights."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import save_model_folder
from hydra_model.config import DEFAULT, ModelConfig, SceneFlowConfig
from hydra_model.latent_store import SpillError
from hydra_model.memory import MemoryLimits, MemorySettings
from hydra_model.resources import weights_folder
from hydra_model.transformer import Transformer
from hydra_model.world import Cancelled, World

CONFIG = dataclasses.replace(
    DEFAULT,
    name="miniature",
    video=dataclasses.replace(DEFAULT.video, height=32, width=48),
    autoencoder=dataclasses.replace(DEFAULT.autoencoder, base_dim=8),
    transformer=dataclasses.replace(
        DEFAULT.transformer, dim=48, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16,
        scene_flow=SceneFlowConfig(after=1, hidden=16, num_blocks=1),
    ),
    sampler=dataclasses.replace(DEFAULT.sampler, steps=2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model"), CONFIG)


def write(folder: Path, config: ModelConfig, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_model_folder(
        folder, config,
        transformer=Transformer(config.transformer).state_dict(),
        autoencoder=Autoencoder(config.autoencoder).state_dict(),
    )  # fmt: skip
    return folder


@pytest.fixture
def world(folder: Path) -> World:
    world = World.load(folder, device="cpu", dtype="float32", seed=3)
    world.reset(*clip(37))
    return world


def clip(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A clip of smooth random pictures and the poses of a camera that turns and moves."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2), drive(count, seed)


def drive(count: int, seed: int = 0) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    for i, pose in enumerate(poses):
        angle = 0.02 * i + seed
        pose[:3, :3] = [
            [math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]
        ]  # fmt: skip
        pose[:3, 3] = [0.05 * i, 0, 0.1 * i]
    return poses


def test_a_step_gives_one_frame_per_pose_and_moves_time_and_camera(world: World) -> None:
    poses = drive(17, seed=1)
    seen = []
    chunk = world.step(poses, on_frames=lambda first, frames: seen.append((first, len(frames))))
    assert chunk.frames.shape == (17, 32, 48, 3) and chunk.frames.dtype == np.uint8
    assert np.allclose(chunk.times, np.arange(1, 18) / 15)
    assert world.time == pytest.approx(17 / 15)
    assert np.array_equal(world.pose, poses[-1])
    assert world.memory_size == 10 + 5
    assert seen == [(0, 1), (1, 4), (5, 4), (9, 4), (13, 4)]


def test_the_same_seed_state_and_poses_give_the_same_frames(folder: Path, world: World) -> None:
    first = [world.step(drive(17, seed=i)).frames for i in (1, 2)]
    again = World.load(folder, device="cpu", dtype="float32")
    again.reset(*clip(37), seed=3)
    assert all(
        np.array_equal(again.step(drive(17, seed=i)).frames, frames)
        for i, frames in zip((1, 2), first, strict=True)
    )
    again.reset(*clip(37), seed=4)
    assert not np.array_equal(again.step(drive(17, seed=1)).frames, first[0])


def test_each_step_conditions_on_what_was_committed_before(world: World) -> None:
    start = world.state()
    world.step(drive(17, seed=1))
    moved = world.step(drive(17, seed=2)).frames
    world.restore(start)
    world.step(drive(17, seed=9))
    assert not np.array_equal(world.step(drive(17, seed=2)).frames, moved)


def test_the_poses_are_relative_so_the_place_in_the_world_does_not_matter(world: World) -> None:
    frames, poses = clip(37)
    shift = np.eye(4)
    shift[:3, :3] = drive(20, seed=2)[7][:3, :3]
    shift[:3, 3] = [3.0, -2.0, 5.0]
    here = world.step(drive(17, seed=1)).frames.astype(int)
    world.reset(frames, shift @ poses)
    there = world.step(shift @ drive(17, seed=1)).frames.astype(int)
    assert np.abs(here - there).max() <= 1


def test_restoring_a_snapshot_repeats_what_followed_it(world: World) -> None:
    world.step(drive(17, seed=1))
    snapshot = world.state()
    first = world.step(drive(77, seed=2)).frames
    world.restore(snapshot)
    assert world.memory_size == 15
    assert np.array_equal(world.step(drive(77, seed=2)).frames, first)


def test_a_saved_state_continues_in_another_process_of_the_same_model(
    folder: Path, world: World, tmp_path: Path
) -> None:
    world.step(drive(17, seed=1))
    world.save(tmp_path / "state")
    expected = world.step(drive(17, seed=2)).frames
    other = World.load(folder, device="cpu", dtype="float32")
    other.load_state(tmp_path / "state")
    assert other.time == pytest.approx(17 / 15)
    assert np.array_equal(other.step(drive(17, seed=2)).frames, expected)


def test_observations_enter_memory_and_move_the_camera(world: World) -> None:
    frames, poses = clip(17, seed=5)
    world.observe(frames, poses)
    assert world.memory_size == 15
    assert world.time == pytest.approx(17 / 15)
    assert np.array_equal(world.pose, poses[-1])
    assert world.state().memory.segments[-1].origin == "observed"


def test_a_single_observed_frame_enters_memory_at_its_own_time(world: World) -> None:
    frames, poses = clip(1, seed=5)
    world.observe(frames, poses, times=[2.5])
    assert world.memory_size == 11
    assert world.time == 2.5
    assert world.state().memory.times[-1] == 2.5
    world.step(drive(17, seed=1))
    assert world.time == pytest.approx(2.5 + 17 / 15)


@pytest.mark.parametrize(
    ("count", "times", "change", "message"),
    [
        (5, [0.0, 0.1, 0.2, 0.3, 0.4], {}, "begins at 0.000 s; accepted: after the last frame, 0"),
        (5, [0.1, 0.2, 0.2, 0.3, 0.4], {}, "must be finite and increase"),
        (5, [0.1, 0.2, np.nan, 0.3, 0.4], {}, "must be finite and increase"),
        (5, [0.1], {}, r"5 frames but times of shape \(1,\)"),
        (4, None, {}, r"4 frames; accepted: 1 \+ 4\*n"),
        (1, None, {"poses": None}, "observation poses"),
        (1, None, {"frames": np.zeros((1, 96, 160, 3), np.uint8)}, r"\[T, 32, 48, 3\]"),
    ],
)
def test_wrong_observations_are_refused_and_change_nothing(
    world: World, count: int, times, change: dict, message: str
) -> None:
    before = world.state()
    frames, poses = clip(count)
    given = {"frames": frames, "poses": poses} | change
    with pytest.raises(ValueError, match=message):
        world.observe(**given, times=times)
    assert world.state() is before


def test_a_step_tells_what_it_remembers_before_it_samples(world: World) -> None:
    world.memory_policy = "hybrid"
    world.step(drive(77, seed=1))
    world.step(drive(77, seed=2))
    told = []
    world.step(drive(17), on_context=lambda *c: told.append(c), on_frames=lambda *f: told.append(f))
    selection, memory = told[0]
    assert selection.policy == "hybrid"
    assert len(memory) == 50 and len(selection.indices) == 20
    assert (np.diff(selection.indices) > 0).all()
    assert set(selection.scores) == {"recent", "overlap", "subject"}
    assert all(score.shape == (50,) for score in (*selection.scores.values(), selection.total))


def test_the_default_policy_is_what_the_weights_were_trained_for(
    world: World, tmp_path: Path
) -> None:
    assert world.memory_policy == "hybrid"
    world.memory_policy = "recent"
    world.memory_policy = "default"
    assert world.memory_policy == "hybrid"
    slots = dataclasses.replace(CONFIG.transformer, time_positions="slot", scene_flow=None)
    folder = write(tmp_path / "slots", dataclasses.replace(CONFIG, transformer=slots))
    assert World.load(folder, device="cpu").memory_policy == "recent"


def test_the_policy_decides_what_a_step_is_conditioned_on(world: World) -> None:
    poses = drive(77, seed=3)
    world.step(poses)
    world.step(drive(77, seed=4))
    world.step(drive(77, seed=5))
    start = world.state()
    frames = []
    for policy in ("recent", "overlap", "recent"):
        world.restore(start)
        world.memory_policy = policy
        frames.append(world.step(poses).frames)
    assert np.array_equal(frames[0], frames[2])
    assert not np.array_equal(frames[0], frames[1])
    with pytest.raises(ValueError, match="'oldest'; accepted: recent, overlap, hybrid"):
        world.memory_policy = "oldest"


def test_the_transformers_own_retrieval_can_be_watched(world: World) -> None:
    start = world.state()
    plain = world.step(drive(17)).frames
    world.restore(start)
    matrices = []
    assert np.array_equal(world.step(drive(17), on_retrieval=matrices.append).frames, plain)
    (matrix,) = matrices
    assert matrix.shape == (5, 10)
    assert matrix.min() >= 0 and matrix.max() <= 1
    # Each target frame chooses top_k memory frames, each of which is some context frames.
    depth = CONFIG.transformer.memory_stride[0]
    chosen = min(CONFIG.transformer.top_k, 10 // depth)
    assert np.allclose(matrix.sum(1), depth * chosen)


def test_memory_over_its_limit_spills_and_predicts_the_same(folder: Path, tmp_path: Path) -> None:
    limits = MemoryLimits(host_bytes=20_000, folder=tmp_path / "spill")
    worlds = [
        World.load(folder, device="cpu", dtype="float32", memory=MemorySettings(limits=own))
        for own in (MemoryLimits(), limits)
    ]
    for world in worlds:
        world.reset(*clip(37), seed=3)
    for seed in (1, 2, 3, 1):
        free, bound = (world.step(drive(37, seed=seed)).frames for world in worlds)
        assert np.array_equal(free, bound)
    assert worlds[1].memory_usage.disk_bytes > 0
    worlds[1].save(tmp_path / "state")
    worlds[0].load_state(tmp_path / "state")
    free, bound = (world.step(drive(37, seed=5)).frames for world in worlds)
    assert np.array_equal(free, bound)


def test_a_disk_that_cannot_take_the_memory_stops_a_step_before_it_begins(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "spill").write_text("a file where the folder should be")
    limits = MemoryLimits(host_bytes=0, folder=tmp_path / "spill")
    world = World.load(folder, device="cpu", memory=MemorySettings(limits=limits))
    world.reset(*clip(37))
    before = world.state()
    with pytest.raises(SpillError, match="cannot spill"):
        world.step(drive(17))
    assert world.state() is before
    (tmp_path / "spill").unlink()
    assert len(world.step(drive(17)).frames) == 17


def test_a_cancelled_step_leaves_no_trace(world: World) -> None:
    before = world.state()
    asked = iter([False, True])
    with pytest.raises(Cancelled):
        world.step(drive(17), cancelled=lambda: next(asked))
    assert world.state() is before


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (drive(18), r"18 poses; accepted: 1 \+ 4\*n, at most 77"),
        (drive(81), r"81 poses; accepted: 1 \+ 4\*n, at most 77"),
        (drive(17) * np.nan, "poses"),
        (np.ones((17, 4, 4)), "poses"),
        (np.eye(4), r"\[N, 4, 4\]"),
    ],
)
def test_wrong_poses_are_refused_and_change_nothing(world: World, poses, message) -> None:
    before = world.state()
    with pytest.raises(ValueError, match=message):
        world.step(poses)
    assert world.state() is before


@pytest.mark.parametrize(
    ("count", "change", "message"),
    [
        (13, lambda f, p: (f, p), "13 frames; at least 17"),
        (18, lambda f, p: (f, p), r"18 frames; accepted: 1 \+ 4\*n"),
        (17, lambda f, p: (f[:, :16], p), r"accepted: uint8 \[T, 32, 48, 3\]"),
        (17, lambda f, p: (f.astype(np.float32), p), "float32"),
        (17, lambda f, p: (f, p[:5]), "17 frames but 5 poses"),
        (17, lambda f, p: (list(f), p), "frames are a list; accepted: a numpy array"),
    ],
)
def test_a_wrong_context_is_refused_and_the_world_goes_on(
    world: World, count: int, change, message: str
) -> None:
    before = world.state()
    with pytest.raises(ValueError, match=message):
        world.reset(*change(*clip(count)))
    assert world.state() is before


def test_states_that_cannot_be_used_are_refused(world: World, folder: Path, tmp_path: Path) -> None:
    before = world.state()
    with pytest.raises(ValueError, match="holds no readable state"):
        world.load_state(tmp_path / "nothing")
    world.save(tmp_path / "state")
    (memory,) = (tmp_path / "state").glob("memory-*.safetensors")
    memory.write_bytes(memory.read_bytes()[:-1])
    with pytest.raises(ValueError, match="holds no readable state"):
        world.load_state(tmp_path / "state")
    other = World.load(
        write(tmp_path / "other", dataclasses.replace(CONFIG, name="other")), device="cpu"
    )
    world.save(tmp_path / "state")
    with pytest.raises(ValueError, match="state of model 'miniature'; this is 'other'"):
        other.load_state(tmp_path / "state")
    retrained = World.load(write(tmp_path / "retrained", CONFIG, seed=1), device="cpu")
    with pytest.raises(ValueError, match="of other weights of model 'miniature'"):
        retrained.load_state(tmp_path / "state")
    assert world.state() is before


@pytest.mark.parametrize(
    ("fact", "value", "message"),
    [
        ("time", float("nan"), "time is nan s"),
        ("time", -5.0, "time is -5.0 s; accepted: from the last in memory, 0.0 s, on"),
        ("pose", (math.nan * np.eye(4)).tolist(), "pose.*not finite"),
        ("fov_x", 9.0, "fov_x is 9.0; accepted: radians"),
        ("files", {}, "0 of 1 segments"),
    ],
)
def test_facts_that_make_no_world_are_refused(
    world: World, tmp_path: Path, fact: str, value, message: str
) -> None:
    before = world.state()
    world.save(tmp_path / "state")
    facts = json.loads((tmp_path / "state" / "state.json").read_text())
    del facts["checksum"]  # or it would be refused for that
    (tmp_path / "state" / "state.json").write_text(json.dumps({**facts, fact: value}))
    with pytest.raises(ValueError, match=message):
        world.load_state(tmp_path / "state")
    assert world.state() is before


def test_only_states_of_such_a_model_are_restored(world: World, tmp_path: Path) -> None:
    autoencoder = dataclasses.replace(
        CONFIG.autoencoder, latent_channels=4, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4
    )
    transformer = dataclasses.replace(CONFIG.transformer, latent_channels=4)
    config = dataclasses.replace(CONFIG, autoencoder=autoencoder, transformer=transformer)
    other = World.load(write(tmp_path, config), device="cpu")
    other.reset(*clip(17))
    before = world.state()
    for state, message in ((other.state(), r"latents are \(4, .*this model's are \(12"),
                           (None, "NoneType is no state")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            world.restore(state)  # type: ignore[arg-type]
        assert world.state() is before


def test_a_prediction_that_is_not_finite_is_not_kept(folder: Path) -> None:
    world = World.load(folder, device="cpu", dtype="float32")
    world.reset(*clip(17))
    before = world.state()
    weight = world.transformer.head.linear.weight
    weight.mul_(torch.inf)
    with pytest.raises(ValueError, match="prediction is not finite, so nothing of it is kept"):
        world.step(drive(5))
    assert world.state() is before


def test_far_from_all_that_is_known_there_are_pictures_still() -> None:
    world = World.load(weights_folder(), device="cpu")
    video = world.config.video
    world.reset(np.full((17, video.height, video.width, 3), 128, np.uint8), drive(17))
    here = world.state()
    away = np.tile(here.pose, (5, 1, 1))
    away[:, 2, 3] += 10_000
    world.step(away)
    assert torch.isfinite(world.state().memory.segments[-1].latents.read()).all()
    world.restore(here)
    away[:, 2, 3] = 1e300
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match="finite"):
        world.step(away)
    assert world.state() is here


def test_seeds_are_whole_numbers(folder: Path, world: World, tmp_path: Path) -> None:
    for seed in ("a", 1.5):
        with pytest.raises(ValueError, match=r"seed is .*; accepted: a whole number"):
            world.reset(*clip(17), seed=seed)  # type: ignore[arg-type]
    world.reset(*clip(17), seed=np.int64(5))  # type: ignore[arg-type]
    world.save(tmp_path / "state")
    assert world.read_state(tmp_path / "state").seed == 5


def test_a_state_of_before_is_written_and_read_beside_the_live_one(
    world: World, tmp_path: Path
) -> None:
    before = world.state()
    world.step(drive(17))
    live = world.state()
    world.save(tmp_path / "state", before)
    read = world.read_state(tmp_path / "state")
    assert (read.time, read.seed, read.chunks) == (before.time, before.seed, before.chunks)
    assert len(read.memory) == len(before.memory)
    assert world.state() is live


def test_a_world_that_was_never_reset_says_so(folder: Path) -> None:
    world = World.load(folder, device="cpu")
    assert not world.ready
    with pytest.raises(ValueError, match="call reset first"):
        world.step(drive(17))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "abacus"}, "accepted: auto, cpu"),
        ({"device": "meta"}, "accepted: auto, cpu"),
        ({"dtype": "float8"}, "accepted: auto, float32"),
    ],
)
def test_unknown_devices_and_types_list_the_known_ones(folder: Path, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        World.load(folder, **options)


def test_the_weights_that_ship_load_and_predict() -> None:
    from hydra_model.config import SamplerConfig

    world = World.load(weights_folder(), sampler=SamplerConfig(steps=1, guidance_scale=1.0))
    video = world.config.video
    frames = np.full((17, video.height, video.width, 3), 128, np.uint8)
    world.reset(frames, drive(17))
    assert world.step(drive(5)).frames.shape == (5, video.height, video.width, 3)
