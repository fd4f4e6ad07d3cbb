# SPDX-License-Identifier: Apache-2.0
"""Where what the context shows lies in space, and where it will be: scene flow of its tokens.

Retrieval finds what once looked the way a query looks now. When the camera has moved since, a
place is seen another way, and a subject has walked on. So a small network reads off every
context token how far away what it shows is and how it will move, and memory's keys and values
are turned from the token's own viewing ray to the ray on which its content will be seen from
each target frame. A query then finds at its own ray what will be there.

Shape legend: B batch, Tc and Tt latent frames of context and target, h and w rows and columns of
tokens, H and W those of latent positions, N = h * w (or H * W), C width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from hydra_model.config import TransformerConfig
from hydra_model.foresight import KNOTS as KNOTS
from hydra_model.foresight import Carried, Foresight, normed
from hydra_model.rays import camera_channels
from hydra_model.rope import RayRates, Rotation, looks_of

_MOVES = 0.1  # of its distance, from the first knot to the last: what goes farther moves by itself
_UNSURE, _SURE = 0.3, 0.7  # probabilities at which emphasis begins, and is all there
_TYPICAL = 2.7  # logarithm of metres, at which distances begin
# Logarithms of metres: far from all that training showed, what is told could overflow.
_NEAREST, _FARTHEST = -3.0, 7.0


class Flow(NamedTuple):
    """Where the content of tokens is, relative to their own rays.

    ``log_distance [B, Tc, N]`` is along the ray, in metres; ``displacement [B, Tc, N, K, 3]`` how
    far the content has gone from there at each knot, in the first target camera's frame and in
    shares of the distance.
    """

    log_distance: Tensor
    displacement: Tensor

    def points(self, camera: Tensor) -> Tensor:
        """Return points ``[B, Tc, N, K, 3]`` in metres, in the first target camera's frame.

        ``camera [B, Tc, N, channels]`` are the tokens' rays (``hydra_model.rays``).
        """
        ray, origin = camera[..., None, :3], camera[..., None, 3:6]
        return origin + self.log_distance[..., None, None].exp() * (ray + self.displacement)

    @property
    def moving(self) -> Tensor:
        """Return bool ``[B, Tc, N]``: what a token shows moves by itself while the target lasts."""
        way = self.displacement[..., -1, :] - self.displacement[..., 0, :]
        return torch.linalg.vector_norm(way, dim=-1) > _MOVES


class SceneFlow(nn.Module):
    """Reads the flow of context tokens and of the latent positions under them off features."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        own = config.scene_flow
        assert own is not None
        self.after, self.reach, self.emphasis = own.after, own.reach, own.emphasis
        self.first_block = config.num_blocks - own.num_blocks  # of those that retrieve by it
        self.patch = config.patch_size[1:]
        self.parts = 1 if config.detail is None else 1 + self.patch[0] * self.patch[1]
        self.enter = nn.Linear(config.dim + camera_channels(config.camera), own.hidden)
        self.leave = nn.Linear(own.hidden, self.parts * (1 + 3 * KNOTS))
        self.foresight = Foresight(config) if own.tracks else None

    def forward(self, features: Tensor, camera: Tensor) -> tuple[Flow, Flow | None]:
        """Return the flow of tokens, and of latent positions where there is a detail scale.

        ``features [B, Tc, h, w, C]`` are what a block made of the context, ``camera
        [B, Tc, N, channels]`` its tokens' rays.
        """
        rows, columns = features.shape[2:4]
        x = normed(features.flatten(2, 3))
        told = self.leave(F.gelu(self.enter(torch.cat((x, camera.to(x.dtype)), -1))))
        told = told.float().unflatten(-1, (self.parts, -1))
        tokens = _flow(told[..., 0, :])
        if self.parts == 1:
            return tokens, None
        spread = rearrange(
            told[..., 1:, :], "b t (h w) (p q) d -> b t (h p w q) d",
            h=rows, w=columns, p=self.patch[0], q=self.patch[1],
        )  # fmt: skip
        return tokens, _flow(spread)

    def moves(
        self, flow: Flow, camera: Tensor, origins: Tensor, times: Tensor,
        carried: Carried | None = None,
    ) -> Tensor:  # fmt: skip
        """Return how far contents have moved across the sky, ``[B, Tt, Tc, N, 2]`` in radians.

        That is the elevation and azimuth at which each content is seen from ``origins
        [B, Tt, 3]`` at ``times [Tt]`` (latent frames since the first target frame), less those of
        its token's own ray in ``camera [B, Tc, N, channels]``, float32. Subjects that are
        ``carried`` are where foresight has them.
        """
        position = (times.float() * ((KNOTS - 1) / self.reach)).clamp(min=0)
        before = position.long().clamp(max=KNOTS - 2)
        share = (position - before)[:, None, None, None, None]
        points = flow.points(camera).permute(3, 0, 1, 2, 4)  # [K, B, Tc, N, 3]
        at = torch.lerp(points[before], points[before + 1], share)
        at = at.transpose(0, 1)
        if carried is not None:
            at = torch.where(carried.told[:, None, ..., None], carried.points, at)
        now = looks_of(at - origins[:, :, None, None])
        then = looks_of(camera[..., :3])
        return torch.stack([a - b[:, None] for a, b in zip(now, then, strict=True)], dim=-1)

    def emphasise(self, key: Tensor, flow: Flow, carried: Carried | None = None) -> Tensor:
        """Return memory's keys ``[B, Tc, N, C]``, those of what moves times the emphasis.

        Of what is carried, as much of it as it is sure where that will be; nothing else moves in
        samples that are followed.
        """
        if self.emphasis == 1.0:
            return key
        share = flow.moving.float()
        if carried is not None:
            sure = ((carried.sure - _UNSURE) / (_SURE - _UNSURE)).clamp(0, 1)
            carries = carried.told * carried.moving * sure
            followed = carried.followed
            share = carries if followed is None else carries.where(followed[:, None, None], share)
        return key * (1 + (self.emphasis - 1) * share)[..., None].to(key.dtype)


def _flow(told: Tensor) -> Flow:
    distance = (told[..., 0] + _TYPICAL).clamp(_NEAREST, _FARTHEST)
    return Flow(distance, told[..., 1:].unflatten(-1, (KNOTS, 3)))


class Turn(NamedTuple):
    """How tokens turn, ``[B, Tt * K * N, pairs]``: the channel pairs from number ``first`` on."""

    by: Rotation
    first: int

    @property
    def channels(self) -> slice:
        """Return which of a head's channels turn."""
        return slice(2 * self.first, 2 * (self.first + self.by.cosine.shape[-1]))


class Turns(NamedTuple):
    """How keys and values of the retrieved memory frames turn."""

    key: Turn
    value: Turn | None


def memory_turns(moves: Tensor, chosen: Tensor, by: Rotation) -> Turns:
    """Return how memory frames ``chosen [B, Tt, K]`` turn by ``moves [B, Tt, Tc, N, 2]``.

    ``by`` is the rotation of the queries, which knows the channels that turn with rays.
    """
    index = chosen[..., None, None].expand(*chosen.shape, *moves.shape[-2:])
    own = moves.gather(2, index).flatten(2, 3)[..., None]

    def turn(rays: RayRates | None) -> Turn:
        assert rays is not None, "these positions do not turn with rays"
        angle = own[..., 0, :] * rays.rates[0] + own[..., 1, :] * rays.rates[1]
        angle = angle.flatten(1, 2)
        return Turn(Rotation(angle.cos(), angle.sin()), rays.first)

    return Turns(turn(by.rays), None if by.value is None else turn(by.value.rays))
