# SPDX-License-Identifier: Apache-2.0
"""What moved is told from what did not, by pictures and poses alone, on procedural worlds."""

import math
import time

import numpy as np
import pytest
import torch

from hydra_model import tracks
from hydra_model.moving import STEP, Sightings, find_moving
from hydra_model.procedural import sample_worlds
from hydra_model.procedural.renderer import render
from hydra_model.procedural.trajectories import optical_poses
from hydra_model.thumbnails import make_thumbnails
from hydra_model.tracks import expected, find_tracks, last_view

FOV_X, ASPECT = math.radians(70), 0.6
TIMES = np.arange(20) * 4 / 15  # of latent frames


def look(seed: int, turn: float, *, drive: float = 0.0):
    """Watch a world for 5 s: thumbnails, poses, and the directions [20, S, 3] of its subjects.

    The camera looks at the first subject and turns by ``turn`` degrees while it drives.
    """
    worlds = sample_worlds(seed)
    motion = worlds.scenes.motion
    places = motion.position(torch.from_numpy(TIMES))[0][:, motion.active[0]].numpy()
    bearing = math.atan2(*places[10, 0, ::-1])
    position = np.stack([drive * TIMES, 0 * TIMES, 1.5 + 0 * TIMES], -1)
    yaw = bearing + np.radians(turn) * (TIMES / TIMES[-1] - 0.5)
    poses = optical_poses(*map(torch.from_numpy, (position, yaw, 0 * yaw))).numpy()
    frames, _ = render(
        worlds.scenes, torch.from_numpy(poses)[None], torch.from_numpy(TIMES), 48, 80, FOV_X,
        supersample=1,
    )  # fmt: skip
    middle = np.full((*places.shape[:2], 1), 0.7)
    towards = np.concatenate([places, middle], -1) - position[:, None]
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    return make_thumbnails(frames[0].numpy()), poses, towards


def errors(found: Sightings, towards: np.ndarray) -> np.ndarray:
    """Degrees between each sighting and the nearest subject."""
    cosine = np.einsum("mi,msi->ms", found.direction, towards[found.frame]).max(1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("turn", [0.0, 40.0])
def test_what_is_found_are_subjects_whether_the_camera_turns_or_not(turn: float) -> None:
    off = []
    for seed in range(10**9, 10**9 + 5):
        thumbnails, poses, towards = look(seed, turn)
        off.append(errors(find_moving(thumbnails, poses, TIMES, FOV_X), towards))
    assert np.median([len(angles) for angles in off]) >= 5
    assert np.mean(np.concatenate(off) < 10) > 0.75


def test_a_world_without_motion_shows_none_though_the_camera_drives() -> None:
    moved = 0
    for seed in range(10**9, 10**9 + 4):
        thumbnails, poses, _ = look(seed, 30.0, drive=0.2)
        still = np.repeat(thumbnails[:1], 20, 0)
        same = np.repeat(poses[:1], 20, 0)
        assert len(find_moving(still, same, TIMES, FOV_X)) == 0
        worlds = sample_worlds(seed)
        # The same path through the world at a standstill.
        frames, _ = render(
            worlds.scenes, torch.from_numpy(poses)[None], torch.zeros(20, dtype=torch.float64),
            48, 80, FOV_X, supersample=1,
        )  # fmt: skip
        found = find_moving(make_thumbnails(frames[0].numpy()), poses, TIMES, FOV_X)
        moved += len(find_tracks(found, TIMES))
    assert moved <= 2


def test_frames_before_the_first_serve_to_compare() -> None:
    thumbnails, poses, _ = look(10**9, 0.0)
    whole = find_moving(thumbnails, poses, TIMES, FOV_X)
    tail = find_moving(thumbnails, poses, TIMES, FOV_X, first=2 * STEP)
    late = whole.frame >= 2 * STEP
    assert np.array_equal(tail.frame + 2 * STEP, whole.frame[late])
    assert np.array_equal(tail.direction, whole.direction[late])


def test_too_few_frames_show_no_motion() -> None:
    thumbnails, poses, _ = look(10**9, 0.0)
    assert len(find_moving(thumbnails[:STEP], poses[:STEP], TIMES[:STEP], FOV_X)) == 0
    assert len(find_moving(thumbnails[:, :0, :0], poses, TIMES, FOV_X)) == 0


def walker(speed: float, frames: int = 12) -> Sightings:
    """Something 4 m ahead (along x) that walks to the left (along y) at ``speed`` m/s."""
    place = np.stack([np.full(frames, 4.0), speed * TIMES[:frames], np.zeros(frames)], -1)
    direction = place / np.linalg.norm(place, axis=-1, keepdims=True)
    return Sightings(np.arange(frames), direction, np.full((frames, 3), 90.0))


def cameras(yaw: list[float]) -> np.ndarray:
    angle = torch.deg2rad(torch.tensor(yaw, dtype=torch.float64))
    return optical_poses(torch.zeros(len(yaw), 3, dtype=torch.float64), angle, 0 * angle).numpy()


def test_a_straight_walk_goes_on_after_it_was_last_seen() -> None:
    (track,) = find_tracks(walker(0.5), TIMES)
    assert track.frame == 11
    later = np.array([8.0])
    towards = track.towards(later)[0]
    bearing = math.degrees(math.atan2(towards[1], towards[0]))
    assert bearing == pytest.approx(math.degrees(math.atan2(4.0, 4.0)), abs=6)
    assert expected(track, cameras([70.0]), later, FOV_X, ASPECT)
    assert not expected(track, cameras([-20.0]), later, FOV_X, ASPECT)


def test_things_of_other_colours_or_places_are_not_joined() -> None:
    one = walker(0.3)
    other = Sightings(one.frame, one.direction, one.colour + 100)
    mixed = Sightings(
        *(np.stack([getattr(one, n), getattr(other, n)], 1).reshape(24, *getattr(one, n).shape[1:])
          for n in ("frame", "direction", "colour"))
    )  # fmt: skip
    assert [track.frame for track in find_tracks(mixed, TIMES)] == [11, 11]


def test_the_last_view_is_the_last_frame_that_may_have_shown_it() -> None:
    (track,) = find_tracks(walker(0.0), TIMES)
    # The camera turns away by 15 degrees a frame from frame 12 on; the view ends at 35.
    yaw = [0.0] * 12 + [15.0 * i for i in range(1, 9)]
    assert last_view(track, cameras(yaw), TIMES, FOV_X, ASPECT) == 13
    assert last_view(track, cameras([0.0] * 20), TIMES, FOV_X, ASPECT) == 19


def leaves(frames: int, each: int) -> Sightings:
    """Things that seem to move everywhere, in every frame others."""
    generator = np.random.default_rng(0)
    direction = generator.normal(size=(frames * each, 3)) * (1, 0.2, 0.2) + (2, 0, 0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    colour = generator.uniform(0, 160, (frames * each, 3))
    return Sightings(np.repeat(np.arange(frames), each), direction, colour)


def test_each_sighting_goes_on_what_it_is_nearest_to(monkeypatch) -> None:
    monkeypatch.setattr(tracks, "_FASTEST", math.inf)  # no track is left out afterwards
    seen = leaves(12, 5)
    chains: list[list[int]] = []
    for index in range(len(seen)):  # the rule, one pair at a time
        nearest, least = None, math.inf
        for chain in chains:
            last = chain[-1]
            elapsed = TIMES[seen.frame[index]] - TIMES[seen.frame[last]]
            angle = math.acos(min(1.0, float(seen.direction[index] @ seen.direction[last])))
            colour = float(np.abs(seen.colour[index] - seen.colour[last]).max())
            far = angle / math.radians(15) + colour / 70
            if 0 < elapsed <= 1.0 and angle < math.radians(15) and colour < 70 and far < least:
                nearest, least = chain, far
        if nearest is None:
            chains.append([index])
        else:
            nearest.append(index)
    ends = [int(seen.frame[chain[-1]]) for chain in chains if len(chain) >= 3]
    found = [track.frame for track in find_tracks(seen, TIMES)]
    assert found == ends and len(ends) > 3


def test_pictures_of_leaves_give_few_things_and_are_searched_in_a_moment() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 29, 48, 3), dtype=np.uint8)
    found = find_moving(noise, np.tile(np.eye(4), (12, 1, 1)), TIMES[:12], FOV_X)
    assert np.bincount(found.frame).max() == 10
    began = time.process_time()
    # Four times what a picture gives, for as long as motion is believed in.
    find_tracks(leaves(340, 40), np.arange(340) * 4 / 15)
    assert time.process_time() - began < 1.0  # 0.13 s; pair by pair in Python it was 3 s
