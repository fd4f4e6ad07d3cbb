# SPDX-License-Identifier: Apache-2.0
"""Who is where in the context, and where they will be: subjects as tracks, followed one by one.

A token of the context shows a subject at one moment; how it walks shows over many. So subjects are
found and joined to tracks (``hydra_model.spotting``), and a network, which looks at one track at a
time, tells where the subject will be at each of the target's frames, as a mixture of places on the
ground. It learns from far more tracks than a network could be shown pictures of.

Shape legend: B batch, Tc and Tt latent frames of context and target, P latent positions of a frame,
S tracks, M parts of a mixture. Places are metres on the ground, x and z of the first target
camera's frame; times are in latent-frame units since the first target frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydra_model.config import TransformerConfig
from hydra_model.spotting import FASTEST, Cameras, Spotter, Tracks, along

KNOTS = 5  # moments of the target for which a scene flow tells displacements
_LINE = 6  # sightings that a line is fitted to
_SLOWEST = 0.02  # metres a latent frame; a slower line has no direction
_BLUR = 0.15  # metres; nothing needs to be told better
_WINDOW = 0.12  # radians; places so near in a picture are the same
_NEAR = 0.5  # metres; what is nearer counts as so near
_MOVES = 0.1  # of its distance, over the target: what goes farther moves by itself


class Told(NamedTuple):
    """One track a row, as the second network is told of it, in a frame of its own.

    ``place [N, Tc, 2]`` ahead and aside of where a line through the last sightings ends, ``seen``
    bool, ``error``, ``since [N, Tc]`` that end. ``origin [N, 2]`` is this end, ``axes [N, 2, 2]``
    its directions (columns), ``time [N]`` when it was reached, ``speed [N]`` metres a latent frame.
    ``led [N, Tc, K, 2]`` is where a scene flow leads, and ``hints [N, Tc, C]`` what the
    transformer's blocks made of what is seen, in those rows that ``leads [N]`` are 1.
    """

    place: Tensor
    error: Tensor
    seen: Tensor
    times: Tensor
    cameras: Cameras
    origin: Tensor
    axes: Tensor
    time: Tensor
    speed: Tensor
    led: Tensor
    hints: Tensor
    leads: Tensor

    def local(self, place: Tensor) -> Tensor:
        """Places ``[N, ..., 2]`` in the frame of the track."""
        origin = self.origin.view(-1, *[1] * (place.ndim - 2), 2)
        return torch.einsum("n...i,nij->n...j", place - origin, self.axes)

    def world(self, local: Tensor) -> Tensor:
        origin = self.origin.view(-1, *[1] * (local.ndim - 2), 2)
        return torch.einsum("n...j,nij->n...i", local, self.axes) + origin

    def line(self, times: Tensor) -> Tensor:
        ahead = self.speed[:, None] * (times - self.time[:, None])
        return torch.stack((ahead, torch.zeros_like(ahead)), -1)

    def looks(self, cameras: Cameras, times: Tensor) -> Tensor:
        """Describe cameras and how they would see the line's end: ``[N, T, 8]``."""
        place = self.local(cameras.place)
        facing = torch.einsum("nti,nij->ntj", cameras.facing, self.axes)
        offset = self.line(times) - place
        depth, aside = along(offset, facing)
        bearing = torch.atan2(aside, depth)
        more = torch.stack((depth / 4, aside / 4, bearing, (bearing / 0.3).tanh()), -1)
        return torch.cat((place / 4, facing, more), -1)


def tell(
    place: Tensor, error: Tensor, seen: Tensor, times: Tensor, cameras: Cameras,
    led: Tensor, hints: Tensor, leads: Tensor | None = None, mirrored: Tensor | None = None,
) -> Told:  # fmt: skip
    """Put tracks into frames of their own: ``place [N, Tc, 2]``, ``times [N, Tc]``.

    ``led [N, Tc, K, 2]`` is where a scene flow leads and ``hints [N, Tc, C]`` what blocks made of
    it, in all rows or where ``leads``, bool [N]. Those where ``mirrored``, bool [N], have left and
    right exchanged.
    """
    order = seen.flip(1).cumsum(1).flip(1)
    recent = seen & (order <= _LINE)
    weight = recent.float()
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    mean_time = (weight * times).sum(1)
    mean = (weight[..., None] * place).sum(1)
    elapsed = weight * (times - mean_time[:, None])
    spread = (elapsed * (times - mean_time[:, None])).sum(1)
    slope = (elapsed[..., None] * (place - mean[:, None])).sum(1)
    slope = slope / spread[:, None].clamp(min=1e-3)
    slope = slope * (
        FASTEST / torch.linalg.vector_norm(slope, dim=-1, keepdim=True).clamp(min=FASTEST)
    )
    speed = torch.linalg.vector_norm(slope, dim=-1)
    last = times.masked_fill(~seen, -1e4).amax(1)
    last = torch.where(seen.any(1), last, 0.0)
    origin = mean + slope * (last - mean_time)[:, None]
    ahead = torch.where((speed > _SLOWEST)[:, None], slope, origin - cameras.place[:, -1])
    ahead = F.normalize(ahead, dim=-1)
    beside = torch.stack((-ahead[:, 1], ahead[:, 0]), -1)
    if mirrored is not None:
        beside = torch.where(mirrored[:, None], -beside, beside)
    axes = torch.stack((ahead, beside), -1)
    leads = torch.ones_like(speed) if leads is None else leads.to(speed.dtype)
    told = Told(place, error, seen, times, cameras, origin, axes, last, speed, led, hints, leads)
    leading = (seen * leads[:, None])[..., None]
    return told._replace(
        place=told.local(place) * seen[..., None],
        led=told.local(led) * leading[..., None], hints=hints * leading.to(hints.dtype),
    )  # fmt: skip


class Mixture(NamedTuple):
    """Where a subject may be, ``[N, Tt, M]``: Gaussians on the ground in the track's frame.

    ``share`` are logarithms, ``mean [..., 2]``, ``scale [..., 2]``, and ``across`` the second
    coordinate's part that goes with the first (a Cholesky factor's lower corner).
    """

    share: Tensor
    mean: Tensor
    scale: Tensor
    across: Tensor

    def log_density(self, place: Tensor) -> Tensor:
        """Return the logarithm of the density at places ``[N, Tt, 2]``."""
        x, y = (place[:, :, None] - self.mean).unbind(-1)
        first = x / self.scale[..., 0]
        second = (y - self.across * first) / self.scale[..., 1]
        logarithm = -(first.square() + second.square()) / 2 - self.scale.log().sum(-1)
        return torch.logsumexp(self.share + logarithm, -1) - 1.8379

    def best(
        self, told: Told, cameras: Cameras, reach: Tensor, seen_from: float
    ) -> tuple[Tensor, Tensor]:
        """Return the place ``[N, Tt, 2]`` near which, in the picture, it most likely is.

        If it is in the picture of ``cameras [N, Tt]``, up to ``reach`` radians from its middle
        ``[N, Tt]``, with a probability above ``seen_from``, a place in the picture. The second
        result ``[N, Tt]`` is how likely it is near that place, 0 where this is not in the picture.
        """
        camera, facing = (
            told.local(cameras.place),
            torch.einsum("nti,nij->ntj", cameras.facing, told.axes),
        )
        way = self.mean - camera[:, :, None]
        distance = torch.linalg.vector_norm(way, dim=-1).clamp(min=_NEAR)
        ahead, aside = along(way, facing[:, :, None])
        bearing = torch.atan2(aside, ahead)
        tangent = torch.stack((-way[..., 1], way[..., 0]), -1) / distance[..., None]
        first = tangent[..., 0] * self.scale[..., 0] + tangent[..., 1] * self.across
        second = tangent[..., 1] * self.scale[..., 1]
        blur = (torch.hypot(first, second) / distance).clamp(min=1e-3)
        share = self.share.exp()

        def within(middle: Tensor, half: float | Tensor) -> Tensor:
            """The probability of being within a bearing, ``[N, Tt, m]``."""
            off = middle[..., None] - bearing[:, :, None]
            spread = blur[:, :, None]
            mass = torch.special.ndtr((off + half) / spread) - torch.special.ndtr(
                (off - half) / spread
            )
            return (share[:, :, None] * mass).sum(-1)

        here = within(bearing, _WINDOW)
        inside = bearing.abs() < reach[..., None]
        shown = within(bearing.new_zeros(*bearing.shape[:2], 1), reach[..., None, None]) > seen_from
        here = torch.where(shown & ~inside & inside.any(-1, keepdim=True), -1.0, here)
        likely, chosen = here.max(-1, keepdim=True)
        likely = (likely * inside.gather(-1, chosen)).squeeze(-1)
        near = (bearing - bearing.gather(-1, chosen)).abs() < _WINDOW
        weight = share * near
        return (weight[..., None] * self.mean).sum(-2) / weight.sum(-1)[..., None], likely


class Foreseer(nn.Module):
    """Tells where the subjects of tracks will be, each frame of the target by itself.

    Told hints have ``features`` numbers.
    """

    def __init__(self, features: int, width: int = 128, parts: int = 16, hints: int = 48) -> None:
        super().__init__()
        self.parts = parts
        self.hint = nn.Linear(features, hints)
        self.token = nn.Sequential(
            nn.Linear(22 + 2 * KNOTS + 1 + hints, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.query = nn.Sequential(
            nn.Linear(5 * 8 + 8, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        encoder = nn.TransformerEncoderLayer(
            width, 4, 3 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(encoder, 4, enable_nested_tensor=False)
        self.decoder = nn.ModuleList(_Ask(width) for _ in range(3))
        self.norm = nn.LayerNorm(width)
        self.answer = nn.Linear(width, parts * 6)

    def forward(self, told: Told, cameras: Cameras, times: Tensor) -> Mixture:
        """Answer for target ``cameras`` ``[N, Tt]`` at ``times [N, Tt]``."""
        shown = told.seen.float()[..., None]
        seen = told.times
        since = seen - told.time[:, None]
        facts = torch.stack((told.time / 20, told.speed * 4, shown.mean((1, 2))), -1)[:, None]
        beside = (4 * (told.place - told.line(seen))).clamp(-6, 6)
        told_of = torch.cat((told.place / 2, beside, told.error, torch.ones_like(shown)), -1)
        clock = torch.stack(
            (
                since / 20,
                (-since).clamp(min=0).add(1).log(),
                seen / 20,
                (1 - seen).clamp(min=0.1).log(),
            ),
            -1,
        )
        looks = told.looks(told.cameras, seen)
        given = facts.expand(-1, seen.shape[1], -1)
        kind = self.answer.weight.dtype
        leads = (shown * told.leads[:, None, None]).to(kind)
        led = (told.led.flatten(-2) / 4).clamp(-6, 6)
        hint = self.hint(told.hints.to(kind))
        token = torch.cat((told_of * shown, clock, looks, given, led, leads), -1).to(kind)
        token = torch.cat((token, hint), -1)
        token = self.encoder(self.token(token))
        elapsed, line = times - told.time[:, None], told.line(times)
        elapsed = elapsed.clamp(min=0.3)
        known = torch.stack(
            (times / 20, elapsed / 20, elapsed.log(), 1 / (2 + elapsed), line[..., 0] / 4), -1
        )
        asked = [known, facts.expand(-1, times.shape[1], -1)]
        # Where the camera is then, and before and after: it may be sent where subjects are.
        last = times.shape[1] - 1
        for shift in (0, -5, -2, 2, last):
            index = (torch.arange(last + 1, device=times.device) + shift).clamp(0, last)
            moved = Cameras(cameras.place[:, index], cameras.facing[:, index])
            asked.append(told.looks(moved, times))
        query = self.query(torch.cat(asked, -1).to(kind))
        for layer in self.decoder:
            query = layer(query, token)
        answer = self.answer(self.norm(query)).float().unflatten(-1, (self.parts, 6))
        growth = ((1 + elapsed) / 4)[..., None, None]
        mean = line[..., None, :] + growth * 0.5 * answer[..., 1:3]
        scale = _BLUR + growth * (answer[..., 3:5].clamp(-8, 3) - 1.5).exp()
        return Mixture(answer[..., 0].log_softmax(-1), mean, scale, answer[..., 5] * scale[..., 1])


class _Ask(nn.Module):
    """A query looks at a track's tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.feed = nn.Sequential(
            nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width)
        )

    def forward(self, query: Tensor, token: Tensor) -> Tensor:
        found, _ = self.attention(self.norms[0](query), token, token, need_weights=False)
        query = query + found
        return query + self.feed(self.norms[1](query))


def normed(features: Tensor) -> Tensor:
    """Return what a block makes of tokens, ``[..., C]``, free of how large it is."""
    return F.layer_norm(features, features.shape[-1:])


class Carried(NamedTuple):
    """Where what tokens show of subjects will be: ``points [B, Tt, Tc, N, 3]``, metres.

    For those tokens that are ``told``, bool ``[B, Tc, N]``, of which the subjects of ``moving``
    walk while the target lasts. ``sure [B, Tc, N]`` is how likely they are there, where the target
    should show them. Samples that are not ``followed``, bool [B], have none (None: all are).
    """

    points: Tensor
    told: Tensor
    moving: Tensor
    sure: Tensor
    followed: Tensor | None = None


class Foresight(nn.Module):
    """Follows subjects through the context, and says where they will be in the target."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        own = config.scene_flow
        assert own is not None
        self.most, self.seen_from = own.tracks, own.seen_from
        self.patch = (config.patch_size[1], config.patch_size[2])
        self.spot = Spotter(config.latent_channels, config.dim)
        self.foresee = Foreseer(config.dim)

    def forward(
        self,
        latents: Tensor,
        camera: Tensor,
        target_camera: Tensor,
        context_times: Tensor,
        target_times: Tensor,
        led: Tensor,
        features: Tensor,
    ) -> tuple[Tracks, Tensor, Tensor]:
        """Return the tracks, where they lead, ``[B, S, Tt, 2]``, and how surely, ``[B, S]``.

        ``latents [B, C, Tc, H, W]`` of the context; ``camera [B, Tc, H * W, channels]`` the rays of
        its latent positions, ``target_camera [B, Tt, N, channels]`` those of the target's tokens.
        ``led [B, Tc, H * W, K, 2]`` is where a scene flow leads what positions show, on the ground,
        ``features [B, Tc, h, w, C]`` what it is read off.
        """
        features = normed(features)
        tracks = self.spot.tracks(
            self.spot(latents, camera, features), Cameras.of(camera.float()), context_times,
            self.most,
        )  # fmt: skip
        batch, most = tracks.seen.shape[:2]

        def rows(x: Tensor) -> Tensor:
            return x[:, None].expand(-1, most, *[-1] * (x.ndim - 1)).flatten(0, 1)

        own, ahead = (
            Cameras(*(rows(x) for x in Cameras.of(rays.float())))
            for rays in (camera, target_camera)
        )
        times, later = (t.float().expand(batch * most, -1) for t in (context_times, target_times))
        told = tell(
            tracks.place.flatten(0, 1), tracks.error.flatten(0, 1), tracks.seen.flatten(0, 1),
            times, own, led=tracks.lead(led).flatten(0, 1),
            hints=tracks.hints(features, self.patch).flatten(0, 1),
        )  # fmt: skip
        mixture = self.foresee(told, ahead, later)
        reach = rows(Cameras.reach(target_camera.float()))
        best, likely = mixture.best(told, ahead, reach, self.seen_from)
        sure = likely.sum(-1) / (likely > 0).sum(-1).clamp(min=1)
        best, sure = (x.unflatten(0, (batch, most)) for x in (told.world(best), sure))
        return tracks, best, sure

    @torch.no_grad()  # it is learned from what is true of it, not through what is retrieved by it
    def carry(
        self,
        latents: Tensor,
        camera: Tensor,
        rays: Tensor,
        target_camera: Tensor,
        context_times: Tensor,
        target_times: Tensor,
        led: Tensor,
        features: Tensor,
        followed: Tensor | None = None,
    ) -> tuple[Carried, Carried]:
        """Return where what tokens show of subjects will be, and what latent positions show.

        ``camera [B, Tc, N, channels]`` are the tokens' rays, ``rays`` those of positions, all else
        as for ``forward``; nothing is told in samples that are not ``followed``, bool [B].
        """
        tracks, ahead, sure = self(
            latents, rays, target_camera, context_times, target_times, led, features
        )
        if followed is not None:
            part = torch.where(followed[:, None, None], tracks.part, -1)
            tracks = tracks._replace(part=part)
        size = (latents.shape[3], latents.shape[4])
        coarse, fine = (
            self.carried(tracks, ahead, sure, at, size)._replace(followed=followed)
            for at in (camera, rays)
        )
        return coarse, fine

    def carried(
        self, tracks: Tracks, ahead: Tensor, sure: Tensor, rays: Tensor, size: tuple[int, int]
    ) -> Carried:
        """Return where what positions show will be, or, with larger cells, what tokens show.

        ``ahead`` and ``sure`` are those of ``forward``, ``rays [B, Tc, N, channels]`` those of
        positions or tokens; the frame has rows and columns of latent positions in its ``size``.
        """
        part = tracks.part
        if rays.shape[2] != part.shape[2]:
            part = self._of_tokens(part, *size)
        told = part >= 0
        index = part.clamp(min=0)
        batch, frames = (
            torch.arange(size, device=part.device).view(shape)
            for size, shape in ((len(part), (-1, 1, 1)), (part.shape[1], (1, -1, 1)))
        )
        stand = tracks.place[batch, index, frames]  # [B, Tc, N, 2]
        ray, origin = rays[..., :3].float(), rays[..., 3:6].float()
        away = torch.linalg.vector_norm(stand - origin[..., ::2], dim=-1).clamp(min=_NEAR)
        level = torch.linalg.vector_norm(ray[..., ::2], dim=-1).clamp(min=0.2)
        own = origin + (away / level)[..., None] * ray
        later = ahead[batch, index]  # [B, Tc, N, Tt, 2]
        place = (own[..., ::2] - stand)[..., None, :] + later
        height = own[..., None, 1].expand_as(place[..., 0])
        points = torch.stack((place[..., 0], height, place[..., 1]), -1)
        way = torch.linalg.vector_norm(later[..., -1, :] - later[..., 0, :], dim=-1)
        moving = way > _MOVES * away
        return Carried(points.permute(0, 3, 1, 2, 4), told, moving, sure[batch, index])

    def _of_tokens(self, part: Tensor, rows: int, columns: int) -> Tensor:
        """Return the track that tokens show most of, or -1."""
        height, width = self.patch
        cells = part.unflatten(-1, (rows // height, height, columns // width, width)).transpose(
            -3, -2
        )
        cells = cells.flatten(-2).flatten(2, 3)  # [B, Tc, N, cells]
        numbers = torch.arange(self.most, device=part.device)
        count, best = (cells[..., None] == numbers).sum(-2).max(-1)
        return torch.where(count > 0, best, -1)
