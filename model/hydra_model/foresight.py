# SPDX-License-Identifier: Apache-2.0
"""Who is where in the context, and where they will be: subjects as tracks, followed one by one.

A token of the context shows a subject at one moment; how it walks shows over many. So a small
convolutional network reads off every latent position whether it shows a subject, where that stands
and what it looks like. Positions that look the same make a track, a place per context frame.
A second network, which looks at one track at a time, tells where the subject will be at each of the
target's frames, as a mixture of places on the ground. It learns from far more tracks than a network
could be shown pictures of.

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

KNOTS = 5  # moments of the target for which a scene flow tells displacements
_SUBJECT = 0.6  # probability from which on a position shows a subject
_TYPICAL = 2.0  # logarithm of metres, at which distances begin
_NEAREST, _FARTHEST = -1.0, 4.6  # logarithms of metres
_LINE = 6  # sightings that a line is fitted to
_FASTEST = 0.4  # metres a latent frame; nobody is
_FASTEST_TOLD = 0.02  # metres a latent frame; a slower line has no direction
_BLUR = 0.15  # metres; nothing needs to be told better
_WINDOW = 0.12  # radians; places so near in a picture are the same
_ALIKE = 0.0  # logit of the same subject from which on looks are the same
_PASSES = 2  # in which the positions of a track are found
_BODY, _BODY_SHARE = 1.0, 0.12  # metres, and shares of the distance, within a subject
_NEAR = 0.5  # metres; what is nearer counts as so near
_MOVES = 0.1  # of its distance, over the target: what goes farther moves by itself


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
    """Reads spots off single latent frames."""

    def __init__(self, channels: int, width: int = 96, blocks: int = 4, look: int = 16) -> None:
        super().__init__()
        self.look = look
        self.enter = nn.Conv2d(channels + 5, width, 3, padding=1)
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

    def forward(self, latents: Tensor, camera: Tensor) -> Spots:
        """Return what ``latents [B, C, Tc, H, W]`` show; ``camera [B, Tc, P, channels]``: rays."""
        batch, _, frames, rows, columns = latents.shape
        ray, origin = camera[..., :3].float(), camera[..., 3:6].float()
        cameras = Cameras.of(camera.float())
        ahead, aside = along(ray[..., ::2], cameras.facing[:, :, None])
        level = torch.linalg.vector_norm(ray[..., ::2], dim=-1).clamp(min=0.05)
        seen_at = torch.stack(
            (ahead, aside, ray[..., 1], ray[..., 1] / level, origin[..., 1]), dim=2
        ).unflatten(-1, (rows, columns))  # [B, Tc, 5, H, W]
        x = torch.cat((latents.transpose(1, 2).float(), seen_at), 2).flatten(0, 1)
        x = self.enter(x.to(self.enter.weight.dtype))
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
    agree = (apart < _FASTEST * gap + blur) & seen[:, :, None] & seen[:, None]
    anchor = agree.sum(-1).argmax(-1)
    return agree[torch.arange(len(agree), device=agree.device), anchor]


class Told(NamedTuple):
    """One track a row, as the second network is told of it, in a frame of its own.

    ``place [N, Tc, 2]`` ahead and aside of where a line through the last sightings ends, ``seen``
    bool, ``error``, ``since [N, Tc]`` that end. ``origin [N, 2]`` is this end, ``axes [N, 2, 2]``
    its directions (columns), ``time [N]`` when it was reached, ``speed [N]`` metres a latent frame.
    ``led [N, Tc, K, 2]`` is where a scene flow leads, in those rows that ``leads [N]`` are 1.
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
    mirrored: Tensor | None = None, led: Tensor | None = None, leads: Tensor | None = None,
) -> Told:  # fmt: skip
    """Put tracks into frames of their own: ``place [N, Tc, 2]``, ``times [N, Tc]``.

    Those where ``mirrored``, bool [N], have left and right exchanged. ``led [N, Tc, K, 2]`` is
    where a scene flow leads, in all rows or where ``leads``, bool [N].
    """
    none = ~seen
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
        _FASTEST / torch.linalg.vector_norm(slope, dim=-1, keepdim=True).clamp(min=_FASTEST)
    )
    speed = torch.linalg.vector_norm(slope, dim=-1)
    last = times.masked_fill(none, -1e4).amax(1)
    last = torch.where(seen.any(1), last, 0.0)
    origin = mean + slope * (last - mean_time)[:, None]
    ahead = torch.where((speed > _FASTEST_TOLD)[:, None], slope, origin - cameras.place[:, -1])
    ahead = F.normalize(ahead, dim=-1)
    beside = torch.stack((-ahead[:, 1], ahead[:, 0]), -1)
    if mirrored is not None:
        beside = torch.where(mirrored[:, None], -beside, beside)
    axes = torch.stack((ahead, beside), -1)
    if led is None:
        led, leads = place[:, :, None].expand(-1, -1, KNOTS, -1), torch.zeros_like(speed)
    leads = torch.ones_like(speed) if leads is None else leads.to(speed.dtype)
    told = Told(place, error, seen, times, cameras, origin, axes, last, speed, led, leads)
    led = told.local(led) * (seen * leads[:, None])[..., None, None]
    return told._replace(place=told.local(place) * seen[..., None], led=led)


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

    def best(self, told: Told, cameras: Cameras, reach: Tensor, seen_from: float) -> Tensor:
        """Return the place ``[N, Tt, 2]`` near which, in the picture, it most likely is.

        If it is in the picture of ``cameras [N, Tt]``, up to ``reach`` radians from its middle
        ``[N, Tt]``, with a probability above ``seen_from``, a place in the picture.
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
        chosen = here.argmax(-1, keepdim=True)
        near = (bearing - bearing.gather(-1, chosen)).abs() < _WINDOW
        weight = share * near
        return (weight[..., None] * self.mean).sum(-2) / weight.sum(-1)[..., None]


class Foreseer(nn.Module):
    """Tells where the subjects of tracks will be, each frame of the target by itself."""

    def __init__(self, width: int = 128, parts: int = 16) -> None:
        super().__init__()
        self.parts = parts
        self.token = nn.Sequential(
            nn.Linear(22 + 2 * KNOTS + 1, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
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
        token = torch.cat((told_of * shown, clock, looks, given, led, leads), -1).to(kind)
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


class Carried(NamedTuple):
    """Where what tokens show of subjects will be: ``points [B, Tt, Tc, N, 3]``, metres.

    For those tokens that are ``told``, bool ``[B, Tc, N]``, of which the subjects of ``moving``
    walk while the target lasts.
    """

    points: Tensor
    told: Tensor
    moving: Tensor


class Foresight(nn.Module):
    """Follows subjects through the context, and says where they will be in the target."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        own = config.scene_flow
        assert own is not None
        self.most, self.seen_from = own.tracks, own.seen_from
        self.patch = config.patch_size[1:]
        self.spot = Spotter(config.latent_channels)
        self.foresee = Foreseer()

    def forward(
        self,
        latents: Tensor,
        camera: Tensor,
        target_camera: Tensor,
        context_times: Tensor,
        target_times: Tensor,
        led: Tensor | None = None,
    ) -> tuple[Tracks, Tensor]:
        """Return the tracks and where they lead, ``[B, S, Tt, 2]``.

        ``latents [B, C, Tc, H, W]`` of the context; ``camera [B, Tc, H * W, channels]`` the rays of
        its latent positions, ``target_camera [B, Tt, N, channels]`` those of the target's tokens.
        ``led [B, Tc, H * W, K, 2]`` is where a scene flow leads what positions show, on the ground.
        """
        tracks = self.spot.tracks(
            self.spot(latents, camera), Cameras.of(camera.float()), context_times, self.most
        )
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
            times, own, led=None if led is None else tracks.lead(led).flatten(0, 1),
        )  # fmt: skip
        mixture = self.foresee(told, ahead, later)
        reach = rows(Cameras.reach(target_camera.float()))
        best = told.world(mixture.best(told, ahead, reach, self.seen_from))
        return tracks, best.unflatten(0, (batch, most))

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
        followed: Tensor | None = None,
    ) -> tuple[Carried, Carried]:
        """Return where what tokens show of subjects will be, and what latent positions show.

        ``camera [B, Tc, N, channels]`` are the tokens' rays, ``rays`` those of positions, all else
        as for ``forward``; nothing is told in samples that are not ``followed``, bool [B].
        """
        tracks, ahead = self(latents, rays, target_camera, context_times, target_times, led)
        if followed is not None:
            part = torch.where(followed[:, None, None], tracks.part, -1)
            tracks = tracks._replace(part=part)
        size = (latents.shape[3], latents.shape[4])
        return self.carried(tracks, ahead, camera, size), self.carried(tracks, ahead, rays, size)

    def carried(
        self, tracks: Tracks, ahead: Tensor, rays: Tensor, size: tuple[int, int]
    ) -> Carried:
        """Return where what positions show will be, or, with larger cells, what tokens show.

        ``ahead`` are the places of ``forward``, ``rays [B, Tc, N, channels]`` those of positions or
        tokens; the frame has rows and columns of latent positions in its ``size``.
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
        return Carried(points.permute(0, 3, 1, 2, 4), told, way > _MOVES * away)

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
