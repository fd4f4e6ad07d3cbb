# SPDX-License-Identifier: Apache-2.0
"""Tracks of subjects with what is true of them, found in pictures or drawn without any."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hydra_model.config import ModelConfig
from hydra_model.foresight import KNOTS
from hydra_model.procedural import Worlds, sample_worlds
from hydra_model.procedural.renderer import pack_geometry
from hydra_model.procedural.tensors import TensorBatch
from hydra_model.procedural.visibility import Rays, take_block
from hydra_model.spotting import Cameras
from hydra_model.training.data import on_device
from hydra_model.training.layouts import TEMPORAL_STRIDE, Layout
from hydra_model.training.whereabouts import places

_AT_ONCE = 512  # worlds whose subjects' sight is found out together
_LEVELS, _SIDES = (0.1, 0.37, 0.63, 0.9), (-0.8, -0.3, 0.3, 0.8)  # of a subject's height and width
_FAR = 100.0  # metres
_BACK = 4  # latent frames after a subject came back that count as its return
_ERROR_DECAY = 0.98
UNSEEN, BACK, NEVER_LEFT, SEEN = range(4)


@dataclass(frozen=True)
class Walks(TensorBatch):
    """Tracks [N] and what is true of them; metres on the ground, as in ``hydra_model.foresight``.

    ``place`` and ``error [N, Tc, 2]`` where ``seen``, bool ``[N, Tc]``, and where the subject truly
    stood; ``then [N, Tt, 2]`` where it will, and ``kind [N, Tt]``, what the target's frame sees of
    it: ``UNSEEN``, ``BACK`` (after a second out of sight), ``NEVER_LEFT`` or ``SEEN``. Cameras and
    times are of the context and of the target. ``led [N, Tc, K, 2]`` is where a scene flow leads
    what is seen and ``hints [N, Tc, C]`` what it is read off, in those rows that ``leads``, bool
    [N], says.
    """

    place: Tensor
    error: Tensor
    seen: Tensor
    stood: Tensor
    times: Tensor
    camera: Tensor
    facing: Tensor
    then: Tensor
    kind: Tensor
    then_times: Tensor
    then_camera: Tensor
    then_facing: Tensor
    led: Tensor
    hints: Tensor
    leads: Tensor

    @property
    def cameras(self) -> Cameras:
        return Cameras(self.camera, self.facing)

    @property
    def then_cameras(self) -> Cameras:
        return Cameras(self.then_camera, self.then_facing)


def join_walks(parts: list[Walks]) -> Walks:
    """Put tracks of the same lengths together."""
    return Walks(
        *(torch.cat(column) for column in zip(*(vars(p).values() for p in parts), strict=True))
    )


def errors_of(place: Tensor, truth: Tensor, origin: Tensor) -> Tensor:
    """Return by how much bearings and logarithms of distances err, seen from ``origin``."""
    told, there = place - origin, truth - origin
    bearing = torch.atan2(told[..., 0], told[..., 1]) - torch.atan2(there[..., 0], there[..., 1])
    length, true_length = (
        torch.linalg.vector_norm(way, dim=-1).clamp(min=0.5) for way in (told, there)
    )
    bearing = torch.remainder(bearing + math.pi, 2 * math.pi) - math.pi
    return torch.stack((bearing, (length / true_length).log()), -1)


def kinds(seen: Tensor, later: Tensor, times: Tensor, later_times: Tensor, fps: float) -> Tensor:
    """Return what the target's frames see of subjects, int64 ``[..., Tt]`` (see ``Walks``).

    ``seen``, bool ``[..., Tc]``, says it of the context's frames at ``times [Tc]``, ``later`` of
    the target's; video frames are ``fps`` a second.
    """
    second = fps / TEMPORAL_STRIDE
    moments = torch.cat((times, later_times))
    last = torch.where(torch.cat((seen, later), -1), moments, -math.inf).cummax(-1).values
    before = last[..., seen.shape[-1] - 1 : -1]  # the last sighting before each target frame
    entry = later & before.isfinite() & (later_times - before > second)
    back = F.max_pool1d(F.pad(entry.float().flatten(0, -2), (_BACK - 1, 0)), _BACK, 1) > 0
    stayed = seen[..., -1:] & later.all(-1, keepdim=True)
    kind = torch.where(stayed, NEVER_LEFT, torch.where(back.view_as(later), BACK, SEEN))
    return torch.where(later, kind, UNSEEN)


class Errors:
    """How a spotter errs: of what it tells of its errors mean and deviations, and what they are.

    ``told`` is the mean of the logarithms that it tells, ``between`` and ``within`` their
    deviations from track to track and in one; ``ratio`` is the true error in shares of the told (by
    its median, for a few are of other subjects), ``shared`` how much of it neighbouring frames of a
    track share. Each ``[2]``.
    """

    def __init__(self, device: torch.device) -> None:
        self.values = torch.zeros(5, 2, device=device)
        self.weight = 0.0

    @torch.no_grad()
    def update(self, walks: Walks) -> None:
        seen = walks.seen
        if not seen.any():
            return
        off = errors_of(walks.place, walks.stood, walks.camera).clamp(-1, 1)
        share = (off / walks.error.exp()).clamp(-20, 20)
        told = walks.error[seen]
        count = seen.sum(1, keepdim=True).clamp(min=1)
        mean = (walks.error * seen[..., None]).sum(1) / count
        between = mean.var(0, correction=0)
        within = (told.var(0, correction=0) - between).clamp(min=0.01)
        both, mild = seen[:, 1:] & seen[:, :-1], share.clamp(-4, 4)
        together = (mild[:, 1:] * mild[:, :-1] * both[..., None]).sum((0, 1)) / both.sum().clamp(
            min=1
        )
        shared = (together / mild[seen].square().mean(0).clamp(min=1e-6)).clamp(0, 0.95)
        found = (
            told.mean(0),
            between.sqrt(),
            within.sqrt(),
            share[seen].abs().median(0).values / math.log(2),
            shared,
        )
        self.values = self.values.lerp(torch.stack(found), 1 - _ERROR_DECAY)
        self.weight = self.weight * _ERROR_DECAY + 1 - _ERROR_DECAY

    def disturb(self, walks: Walks, generator: torch.Generator, features: int) -> Walks:
        """Return drawn tracks as a spotter would tell them, ``features`` numbers a (void) hint."""
        told, between, within, ratio, shared = self.values / self.weight

        def laplace(*shape: int) -> Tensor:
            """Numbers whose sizes have a mean of 1."""
            even = 1.9999 * torch.rand(*shape, generator=generator, device=told.device) - 0.99995
            return -even.sign() * torch.log1p(-even.abs())

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=told.device)

        count, frames = walks.seen.shape
        error = told + between * normal(count, 1, 2) + within * normal(count, frames, 2)
        share = shared.sqrt() * laplace(count, 1, 2) + (1 - shared).sqrt() * laplace(
            count, frames, 2
        )
        off = (ratio * error.exp() * share).clamp(-1, 1)
        way = walks.stood - walks.camera
        bearing = torch.atan2(way[..., 0], way[..., 1]) + off[..., 0]
        length = torch.linalg.vector_norm(way, dim=-1) * off[..., 1].exp()
        place = walks.camera + length[..., None] * torch.stack((bearing.sin(), bearing.cos()), -1)
        seen = walks.seen[..., None]
        void = place.new_zeros(count, frames, features, dtype=walks.hints.dtype)
        told = {"place": place * seen, "error": error * seen, "hints": void}
        return Walks(**vars(walks) | told)


@torch.no_grad()
def draw_walks(config: ModelConfig, seeds: Tensor, layout: Layout, style: str) -> Walks:
    """Draw worlds, and return their subjects that the context sees: true positions, no errors."""
    device = seeds.device
    worlds = sample_worlds(seeds, style=style, device=device)
    frames, ahead = layout.context_latent_frames(), layout.target_latent_frames()
    held = [frame + clip.held for clip in layout.clips for frame in clip.latent_frames]
    times, camera_times = (
        (on_device(numbers, device).double() + 1) / config.video.fps
        for numbers in (frames + ahead, held + ahead)
    )
    poses = worlds.trajectories.poses(camera_times)
    sight = torch.cat(
        [
            in_sight(config, worlds[i : i + _AT_ONCE], poses[i : i + _AT_ONCE], times)
            for i in range(0, len(seeds), _AT_ONCE)
        ]
    )
    split = len(frames)
    inverse = torch.linalg.inv_ex(poses[:, split].double()).inverse
    place = places(worlds, times, inverse)[..., ::2]
    relative = (inverse[:, None] @ poses.double()).float()
    camera = relative[:, None, :, :3, 3][..., ::2].expand(-1, place.shape[1], -1, -1)
    facing = F.normalize(relative[:, None, :, :3, 2][..., ::2], dim=-1).expand_as(camera)
    seen, later = sight[..., :split], sight[..., split:]
    own, after = (
        on_device(numbers, device).float() / TEMPORAL_STRIDE for numbers in (frames, ahead)
    )
    stood = place[:, :, :split]
    columns = (
        stood, torch.zeros_like(stood), seen, stood, own.expand_as(seen),
        camera[:, :, :split], facing[:, :, :split], place[:, :, split:],
        kinds(seen, later, own, after, config.video.fps), after.expand_as(later),
        camera[:, :, split:], facing[:, :, split:],
        stood[..., None, :].expand(-1, -1, -1, KNOTS, -1), stood[..., :0].to(torch.bfloat16),
        torch.zeros_like(seen[..., 0]),
    )  # fmt: skip
    some = seen.any(-1)
    return Walks(*(column[some] for column in columns))


def in_sight(config: ModelConfig, worlds: Worlds, poses: Tensor, times: Tensor) -> Tensor:
    """Say when some point of each subject is in the picture and not hidden, bool ``[B, S, T]``.

    Nearly what pictures show, without drawing any.
    """
    blocks, subjects = pack_geometry(worlds.scenes, times)
    camera = poses.flatten(0, 1).float()
    origin, place, height = camera[:, None, :3, 3], subjects[..., :2], subjects[..., 4]
    aside = torch.atan2(*(place - origin[..., :2]).flip(-1).unbind(-1)) + math.pi / 2
    across = subjects[..., 5:6].maximum(subjects[..., 12:]) * torch.stack(
        (aside.cos(), aside.sin()), -1
    )
    points = [
        torch.cat((place + side * across, level * height[..., None]), -1)
        for level in _LEVELS
        for side in _SIDES
    ]
    ray = torch.stack(points, 2).flatten(1, 2) - origin  # [F, S * points, 3]
    x, y, z = (ray @ camera[:, :3, :3]).unbind(-1)
    right = math.tan(config.video.fov_x / 2)
    bottom = right * config.video.height / config.video.width
    shown = (x.abs() < right * z) & (y.abs() < bottom * z) & (z < _FAR)
    rays, depth, hidden = Rays(*origin.unbind(-1), *ray.unbind(-1)), torch.ones_like(z), ~shown
    everywhere = torch.ones((), dtype=torch.bool, device=z.device)
    for block in blocks.unbind(1):
        depth, hidden = take_block(rays, block, everywhere, depth, hidden)
    seen = (~hidden).unflatten(1, (subjects.shape[1], -1)).any(-1)
    return seen.unflatten(0, (len(poses), -1)).transpose(1, 2)
