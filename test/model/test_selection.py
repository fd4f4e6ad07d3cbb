# SPDX-License-Identifier: Apache-2.0
"""Which frames are chosen, on histories where it is known which ones matter."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from hydra_model.memory import Latents, MemoryBank, Segment
from hydra_model.moving import Sightings
from hydra_model.procedural.trajectories import optical_poses
from hydra_model.selection import POLICIES, Request, Selection, select

STEP = 4 / 15  # seconds between latent frames


def cameras(yaw) -> np.ndarray:
    angle = torch.deg2rad(torch.as_tensor(yaw, dtype=torch.float64))
    position = torch.tensor([0.0, 0.0, 1.5], dtype=torch.float64).expand(len(angle), 3)
    return optical_poses(position, angle, torch.zeros_like(angle)).numpy()


def segment(yaw, start: float, origin="observed", sightings=None) -> Segment:
    count = len(yaw)
    times = start + STEP * np.arange(1, count + 1)
    found = Sightings.none() if sightings is None else sightings
    latents = Latents(torch.zeros(1, count, 1, 1))
    return Segment(latents, cameras(yaw), times, origin, sightings=found)


def history(*parts: tuple[float, int]) -> MemoryBank:
    """Clips of cameras that look in one direction (degrees) for a number of frames each."""
    memory = MemoryBank()
    for yaw, count in parts:
        start = memory.times[-1] if len(memory) else 0.0
        memory = memory.add(segment([yaw] * count, start))
    return memory


def request(memory: MemoryBank, yaw, count: int = 20) -> Request:
    times = memory.times[-1] + STEP * np.arange(1, len(yaw) + 1)
    return Request(
        poses=cameras(yaw), times=times, count=count, multiple=2, fov_x=math.radians(70), aspect=0.6
    )


def directions(memory: MemoryBank, selection: Selection) -> np.ndarray:
    """The chosen cameras' yaw in whole degrees."""
    forward = memory.poses[selection.indices, :3, 2]
    return np.degrees(np.arctan2(forward[:, 1], forward[:, 0])).round()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("frames", [2, 3, 4, 7, 19, 20, 21, 23, 60])
def test_every_policy_fills_the_slots_in_whole_groups_oldest_first(
    policy: str, frames: int
) -> None:
    memory = history((0.0, frames))
    selection = select(policy, memory, request(memory, [0.0] * 5))
    assert selection.policy == policy
    assert len(selection.indices) == min(20, frames // 2 * 2)
    assert (np.diff(selection.indices) > 0).all()
    assert selection.total.shape == (frames,)
    assert all(score.shape == (frames,) for score in selection.scores.values())


@pytest.mark.parametrize("policy", POLICIES)
def test_too_little_memory_is_named(policy: str) -> None:
    memory = history((0.0, 1))
    with pytest.raises(ValueError, match="holds 1 latent frames; at least 2"):
        select(policy, memory, request(memory, [0.0]))


def test_recent_takes_the_newest() -> None:
    memory = history((0.0, 20), (180.0, 40))
    assert select("recent", memory, request(memory, [0.0])).indices.tolist() == list(range(40, 60))


@pytest.mark.parametrize("policy", ["overlap", "hybrid"])
@pytest.mark.parametrize("away", [30, 120, 900])
def test_a_place_is_found_again_however_long_ago_it_was_seen(policy: str, away: int) -> None:
    memory = history((0.0, 20), (180.0, away))
    selection = select(policy, memory, request(memory, [180.0, 90.0, 0.0, 0.0]))
    found = directions(memory, selection)
    assert (found == 0).sum() >= 6
    # Of equal views the newest: it knows best where everybody is.
    assert 19 in selection.indices


def test_hybrid_keeps_the_newest_frames_for_the_motion() -> None:
    memory = history((0.0, 20), (180.0, 60))
    selection = select("hybrid", memory, request(memory, [0.0] * 4))
    assert set(range(70, 80)) <= set(selection.indices.tolist())


def test_a_view_that_needs_two_old_places_gets_both() -> None:
    memory = history((0.0, 40), (180.0, 20), (90.0, 40), (180.0, 200))
    found = directions(memory, select("overlap", memory, request(memory, [0.0, 45.0, 90.0])))
    assert (found == 0).sum() >= 4 and (found == 90).sum() >= 4


def test_an_observed_frame_beats_an_imagined_one_of_the_same_place() -> None:
    memory = MemoryBank()
    for yaw, origin in ((0.0, "observed"), (180.0, "observed"), (0.0, "imagined")):
        start = memory.times[-1] if len(memory) else 0.0
        memory = memory.add(segment([yaw] * 20, start, origin))
    memory = memory.add(segment([180.0] * 40, memory.times[-1], "imagined"))
    selection = select("hybrid", memory, request(memory, [0.0] * 4))
    assert set(range(12, 20)) <= set(selection.indices.tolist())
    assert not set(range(40, 60)) & set(selection.indices.tolist())


def test_frames_are_taken_as_clips_without_a_gap_in_time() -> None:
    memory = history((0.0, 5))
    # Half a minute later the same place again, for a moment.
    memory = memory.add(segment([0.0] * 5, memory.times[-1] + 30))
    memory = memory.add(segment([180.0] * 60, memory.times[-1]))
    for policy in ("overlap", "hybrid"):
        chosen = select(policy, memory, request(memory, [0.0] * 4)).indices
        pairs = memory.times[chosen].reshape(-1, 2)
        assert (np.diff(pairs) < 1).all()


@pytest.mark.parametrize("policy", ["overlap", "hybrid"])
@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_single_pictures_that_were_observed_now_and_then_are_found_too(
    policy: str, seconds: float
) -> None:
    memory = history((180.0, 20))
    for _ in range(4):
        memory = memory.add(segment([0.0], memory.times[-1] + seconds))
    memory = memory.add(segment([180.0] * 60, memory.times[-1] + seconds, "imagined"))
    found = directions(memory, select(policy, memory, request(memory, [0.0] * 4)))
    assert (found == 0).sum() >= 2


def walking(yaw: float, rate: float, frames: int) -> Sightings:
    """Something seen at ``yaw`` degrees that goes left by ``rate`` degrees a second."""
    angle = np.radians(yaw + rate * STEP * np.arange(frames))
    direction = np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
    return Sightings(np.arange(frames), direction, np.full((frames, 3), 200.0))


def test_the_frames_that_last_saw_who_comes_back_elsewhere_are_chosen() -> None:
    # Seen at 0 degrees, going left; then the camera looks away to the right, and at last to
    # the left, where nothing was ever seen but whoever walked there.
    memory = MemoryBank().add(segment([0.0] * 20, 0.0, sightings=walking(0.0, 5.0, 20)))
    memory = memory.add(segment([-120.0] * 40, memory.times[-1]))
    wanted = request(memory, [60.0] * 4)
    selection = select("hybrid", memory, wanted)
    assert {16, 17, 18, 19} <= set(selection.indices.tolist())
    assert selection.scores["subject"][19] == 1
    still = MemoryBank([replace(memory.segments[0], sightings=Sightings.none())])
    still = still.add(memory.segments[1])
    assert select("hybrid", still, wanted).scores["subject"].max() == 0


def test_ten_minutes_with_things_that_move_are_searched_in_a_moment() -> None:
    generator = np.random.default_rng(0)
    memory = MemoryBank()
    for number in range(113):
        start = memory.times[-1] if len(memory) else 0.0
        yaw = 30 * number + np.cumsum(generator.normal(0, 5, 20))
        memory = memory.add(segment(yaw, start, sightings=walking(yaw[0], 5.0, 20)))
    wanted = request(memory, list(np.linspace(0, 90, 20)))
    began = time.process_time()
    select("hybrid", memory, wanted)
    # 0.01 to 0.04 s; the bound is for what grows with the square of the history.
    assert time.process_time() - began < 0.5


def test_unknown_policies_list_the_known_ones() -> None:
    memory = history((0.0, 4))
    with pytest.raises(ValueError, match="'newest'; accepted: recent, overlap, hybrid"):
        select("newest", memory, request(memory, [0.0]))
