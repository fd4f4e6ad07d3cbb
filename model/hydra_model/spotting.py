# SPDX-License-Identifier: Apache-2.0
"""Who is where in the context: subjects in single latent frames, joined to tracks.

A small convolutional network reads off every latent position whether it shows a subject, where that
stands and what it looks like. It sees one frame, and what the transformer, which sees all, made of
it. Positions that look the same make a track, a place per context frame.

Shapes, places and times are those of ``hydra_model.foresight``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FASTEST = 0.4  # metres a latent frame; nobody is
_SUBJECT = 0.6  # probability from which on a position shows a subject
_TYPICAL = 2.0  # logarithm of metres, at which distances begin
_NEAREST, _FARTHEST = -1.0, 4.6  # logarithms of metres
_ALIKE = 0.0  # logit of the same subject from which on looks are the same
_PASSES = 2  # in which the positions of a track are found
_BODY, _BODY_SHARE = 1.0, 0.12  # metres, and shares of the distance, within a subject


class Spots(NamedTuple):
    """What latent positions show, ``[B, Tc, P]``.

    ``subject`` is the logit of showing one, ``place [..., 2]`` where that stands, ``error
    [..., 2]`` the logarithm of how far its bearing (radians) and the logarithm of its distance may
    be off, ``look [..., L]`` a unit vector of what it looks like.
    """

    subject: Tensor
    place: Tensor
    error: Tensor
    look: Tensor


class Tracks(NamedTuple):
    """Subjects as they were seen: ``place [B, S, Tc, 2]`` and ``error``, where ``seen``, bool.

    ``part``, int64 ``[B, Tc, P]``, is the number of the track that a position belongs to, or -1;
    ``share [B, S, Tc, P]`` how much of a track's place each position has told.
    """

    place: Tensor
    error: Tensor
    seen: Tensor
    part: Tensor
    share: Tensor

    def lead(self, led: Tensor) -> Tensor:
        """Return where a scene flow leads each sighting, ``[B, S, Tc, K, 2]``.

        ``led [B, Tc, P, K, 2]`` is where it leads what positions show.
        """
        return torch.einsum("bstp,btpkc->bstkc", self.share, led.float())

    def hints(self, features: Tensor, patch: tuple[int, int]) -> Tensor:
        """Return what blocks made of the tokens of each sighting, ``[B, S, Tc, C]``.

        ``features [B, Tc, h, w, C]`` are of tokens, each a ``patch`` of positions.
        """
        rows, columns = features.shape[2:4]
        cells = self.share.unflatten(-1, (rows, patch[0], columns, patch[1])).sum((-3, -1))
        return torch.einsum("bsthw,bthwc->bstc", cells, features.float())


class Cameras(NamedTuple):
    """Where cameras are and look, ``[B, T, 2]`` each, on the ground."""

    place: Tensor
    facing: Tensor

    @classmethod
    def of(cls, rays: Tensor) -> Cameras:
        """Take them of rays ``[B, T, N, channels]`` (``hydra_model.rays``), float32."""
        facing = rays[..., :3].mean(2)[..., ::2]
        return cls(rays[:, :, 0, 3:6:2], F.normalize(facing, dim=-1))

    @classmethod
    def reach(cls, rays: Tensor) -> Tensor:
        """Return how far from their middle rays ``[B, T, N, channels]`` go, ``[B, T]`` radians."""
        facing = cls.of(rays).facing[:, :, None]
        ahead, aside = along(rays[..., :3:2], facing)
        return torch.atan2(aside, ahead).abs().amax(-1)


def along(way: Tensor, facing: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far ``way [..., 2]`` leads ahead and aside of ``facing``, a unit vector."""
    aside = way[..., 1] * facing[..., 0] - way[..., 0] * facing[..., 1]
    return (way * facing).sum(-1), aside


class Spotter(nn.Module):
    """Reads spots off latent frames, and what a transformer's blocks made of their tokens."""

    def __init__(
        self, channels: int, features: int, width: int = 96, blocks: int = 6, look: int = 16
    ) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels + 5, width, 3, padding=1)
        self.hint = nn.Linear(features, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1), nn.GELU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(blocks)
        )  # fmt: skip
        self.leave = nn.Sequential(
            nn.GroupNorm(8, width), nn.Conv2d(width, width, 1), nn.GELU(),
            nn.Conv2d(width, 5 + look, 1),
        )  # fmt: skip
        self.same = nn.Parameter(torch.tensor([10.0, -5.0]))  # of a cosine of looks, a logit

    def forward(self, latents: Tensor, camera: Tensor, features: Tensor) -> Spots:
        """Return what ``latents [B, C, Tc, H, W]`` show; ``camera [B, Tc, P, channels]``: rays.

        ``features [B, Tc, h, w, C]`` are of tokens, normed.
        """
        batch, _, frames, rows, columns = latents.shape
        ray, origin = camera[..., :3].float(), camera[..., 3:6].float()
        cameras = Cameras.of(camera.float())
        ahead, aside = along(ray[..., ::2], cameras.facing[:, :, None])
        level = torch.linalg.vector_norm(ray[..., ::2], dim=-1).clamp(min=0.05)
        seen_at = torch.stack(
            (ahead, aside, ray[..., 1], ray[..., 1] / level, origin[..., 1]), dim=2
        ).unflatten(-1, (rows, columns))  # [B, Tc, 5, H, W]
        x = torch.cat((latents.transpose(1, 2).float(), seen_at), 2).flatten(0, 1)
        kind = self.enter.weight.dtype
        hint = self.hint(features.to(kind)).flatten(0, 1).permute(0, 3, 1, 2)
        x = self.enter(x.to(kind)) + F.interpolate(hint, (rows, columns))
        for block in self.blocks:
            x = x + block(x)
        told = self.leave(x).float().flatten(2).unflatten(0, (batch, frames)).transpose(2, 3)
        bearing = torch.atan2(ray[..., 0], ray[..., 2]) + told[..., 1]
        distance = (told[..., 2] + _TYPICAL).clamp(_NEAREST, _FARTHEST).exp()
        way = distance[..., None] * torch.stack((bearing.sin(), bearing.cos()), -1)
        return Spots(
            told[..., 0], origin[..., ::2] + way, (told[..., 3:5] - 3.0).clamp(-7, 2),
            F.normalize(told[..., 5:], dim=-1),
        )  # fmt: skip

    def tracks(self, spots: Spots, cameras: Cameras, times: Tensor, most: int) -> Tracks:
        """Join positions to ``most`` tracks, the plainest subject first.

        A track has the positions that look like it, and in each frame those that stand where the
        plainest of these does: one body may be of several colours, and two may look alike.
        ``cameras`` are those of the frames.
        """
        sure = spots.subject.sigmoid()
        weight = sure * (-2 * spots.error[..., 0]).exp()
        place, look = spots.place, spots.look
        left = sure > _SUBJECT
        rows = torch.arange(len(sure), device=sure.device)
        part = torch.full_like(sure, -1, dtype=torch.int64)
        scale, offset = self.same
        for number in range(most):
            index = torch.where(left, sure, 0.0).flatten(1).argmax(1)
            own = look.flatten(1, 2)[rows, index]
            for _ in range(_PASSES):
                alike = left & (torch.einsum("btpl,bl->btp", look, own) * scale + offset > _ALIKE)
                best, at = (weight * alike).max(-1, keepdim=True)
                middle = place.gather(2, at[..., None].expand(-1, -1, -1, 2))  # [B, Tc, 1, 2]
                away = torch.linalg.vector_norm(middle - cameras.place[:, :, None], dim=-1)
                apart = torch.linalg.vector_norm(place - middle, dim=-1)
                walked = _walk(middle[:, :, 0], away[..., 0], times, best[..., 0])
                same = left & walked[..., None] & (apart < _BODY + _BODY_SHARE * away)
                own = F.normalize((look * (sure * same)[..., None]).sum((1, 2)), dim=-1)
            part = torch.where(same, number, part)
            left = left & ~same
        own_part = part[:, None] == torch.arange(most, device=part.device).view(1, -1, 1, 1)
        weights = own_part * weight[:, None]
        total = weights.sum(-1)
        share = weights / total[..., None].clamp(min=1e-9)
        found = torch.einsum("bstp,btpc->bstc", share, place)
        error = torch.einsum("bstp,btpc->bstc", share, spots.error)
        return Tracks(found, error, total > 0, part, share)


def _walk(place: Tensor, away: Tensor, times: Tensor, weight: Tensor) -> Tensor:
    """Say in which frames a track is where one can have walked, bool ``[B, Tc]``.

    That is from the frame that agrees with most others: ``place [B, Tc, 2]``, ``away`` metres from
    the camera, at ``times`` ``[Tc]`` or ``[B, Tc]``; ``weight [B, Tc]`` is 0 where it is not seen.
    """
    seen = weight > 0
    gap = (times[..., :, None] - times[..., None, :]).abs().float()
    apart = torch.linalg.vector_norm(place[:, :, None] - place[:, None], dim=-1)
    blur = _BODY + _BODY_SHARE * torch.maximum(away[:, :, None], away[:, None])
    agree = (apart < FASTEST * gap + blur) & seen[:, :, None] & seen[:, None]
    anchor = agree.sum(-1).argmax(-1)
    return agree[torch.arange(len(agree), device=agree.device), anchor]
