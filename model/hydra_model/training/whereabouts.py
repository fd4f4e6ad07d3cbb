# SPDX-License-Identifier: Apache-2.0
"""Where subjects are: what a training batch knows of them beside the pictures, and a loss of it.

Pictures alone teach motion slowly: it shows where a subject comes back into view, in few tokens
and at the highest noise. So a linear layer has to read off every context token that shows a subject
where that subject will be while the target lasts. It is used in training alone; what it makes the
tokens hold is there for the target's queries.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydra_model.config import ModelConfig, TransformerConfig
from hydra_model.procedural import Worlds
from hydra_model.rays import central_rays
from hydra_model.rope import looks_of
from hydra_model.scene_flow import KNOTS, Flow, SceneFlow
from hydra_model.training.layouts import TEMPORAL_STRIDE, Layout

_FORECAST = 5.0  # seconds from the first target frame, where the model does not say
_NUMBERS = 3  # cosine and sine of the bearing, logarithm of the distance
_NEAREST = 0.5  # metres; nearer ones count as so near
_LEAST_PIXELS = 8.0  # of one subject in a token, over its video frames
_FARTHEST = 200.0  # metres; what is farther, as the sky, counts as so far
_FINE = 0.02  # of a bearing's sine; smaller errors count by their squares
_LEVEL = 0.2  # steeper rays are taken as so steep
_STILL = 0.005  # of the distance; a smaller displacement hardly counts
_LEAST_SHARE = 1 / 32  # of a token's pixels, for its flow to be the subject's
_MISSED = 0.1  # radians: so large an error counts half of what any can count


def forecast_times(config: ModelConfig) -> list[float]:
    """Return the seconds from the first target frame for which places are told: those of knots."""
    own = config.transformer.scene_flow
    last = _FORECAST if own is None else own.reach * TEMPORAL_STRIDE / config.video.fps
    return [last * knot / (KNOTS - 1) for knot in range(KNOTS)]


class Met(NamedTuple):
    """Where subjects stand at the times of the target's latent frames, ``places [B, S, Tt, 3]``.

    In metres as in ``Forecast``; ``in_view``, bool ``[B, S, Tt]``, is true where the frame of that
    time shows them.
    """

    places: Tensor
    in_view: Tensor


class Forecast(NamedTuple):
    """What context tokens are to tell.

    ``shown [B, S, Tc, h, w]`` are the pixels of each subject in a token. It stands at ``stands
    [B, S, Tc, 3]`` at the time of the token and will at ``places [B, S, K, 3]`` at
    ``forecast_times``: metres in the first target camera's frame, the middle of its feet.
    ``near [B, Tc, h, w]`` is the mean inverse distance of what a token shows in its last video
    frame, 1/m, and ``pixels`` how many a token has, over its video frames. ``positions`` says the
    same of single latent positions. ``met`` is where the target's frames see subjects.
    """

    shown: Tensor
    stands: Tensor
    places: Tensor
    near: Tensor
    pixels: int
    positions: Forecast | None = None
    met: Met | None = None

    def over_tokens(self, rows: int, columns: int) -> Forecast:
        """Make that of tokens of ``rows`` by ``columns`` latent positions of that of positions."""

        def cells(x: Tensor) -> Tensor:
            return x.unflatten(-1, (-1, columns)).unflatten(-3, (-1, rows))

        shown, near = cells(self.shown).sum((-3, -1)), cells(self.near).mean((-3, -1))
        pixels = self.pixels * rows * columns
        return Forecast(shown, self.stands, self.places, near, pixels, self, self.met)


def count_pixels(ids: Tensor, subjects: int, cell: int) -> Tensor:
    """Count each subject's pixels in cells: ids uint8 [B, T, H, W] to int64 [B, S, T, h, w]."""
    cells = ids.unflatten(-1, (-1, cell)).unflatten(-3, (-1, cell))
    return torch.stack([(cells == s + 1).sum((-3, -1)) for s in range(subjects)], 1)


def nearness(depth: Tensor, fov_x: float, cell: int) -> Tensor:
    """Return the mean inverse distance of cells, 1/m: ``[B, T, H, W]`` to ``[B, T, h, w]``.

    ``depth`` is along the optical axis, in metres, of an image that is ``fov_x`` radians wide.
    """
    rays = central_rays(
        (depth.shape[-2], depth.shape[-1]), aspect=depth.shape[-2] / depth.shape[-1], fov_x=fov_x,
        device=depth.device,
    ).norm(dim=-1).view(depth.shape[-2:])  # fmt: skip
    return F.avg_pool2d((depth * rays).reciprocal(), cell)


def come_back(
    counts: Tensor, frames: Tensor, target: int, *, least: int, shortest: float
) -> Tensor:
    """Return where subjects show that were seen, then out of sight, then came back.

    ``counts [B, S, T, h, w]`` are pixels in the frames of numbers ``frames [T]``, of which the
    last ``target`` are the target's. A subject is seen with ``least`` pixels; out of sight it is
    when no frame shows it for more than ``shortest`` frames before a frame of the target. Returns
    bool ``[B, 1, target, h, w]``.
    """
    visible = counts.sum((-2, -1)) >= least
    never = frames.min() - 1
    seen = torch.where(visible, frames, never).cummax(-1).values
    last = torch.cat((never.expand(*seen.shape[:-1], 1), seen[..., :-1]), -1)
    back = visible & (last > never) & (frames - last > shortest)
    back = back[..., -target:].cumsum(-1) > 0
    return ((counts[:, :, -target:] > 0) & back[..., None, None]).any(1, keepdim=True)


def over_latent_frames(counts: Tensor, layout: Layout) -> Tensor:
    """Add up the pixels of the context's video frames that each latent frame stands for.

    ``counts [B, S, T, h, w]`` of the layout's context frames to ``[B, S, Tc, h, w]``.
    """
    clips = []
    lengths = [len(clip.frames) for clip in layout.clips]
    for part, clip in zip(counts.split(lengths, dim=2), layout.clips, strict=True):
        padded = F.pad(part, (0, 0, 0, 0, TEMPORAL_STRIDE - 1, 0))
        clips.append(padded.unflatten(2, (-1, TEMPORAL_STRIDE)).sum(3)[:, :, clip.cut :])
    return torch.cat(clips, dim=2)


def places(worlds: Worlds, times: Tensor, to_camera: Tensor) -> Tensor:
    """Return where subjects stand at ``times [K]``, seconds of the worlds: ``[B, S, K, 3]``.

    Metres in the frame of the camera whose pose ``to_camera [B, 4, 4]`` is the inverse of.
    """
    ground = worlds.scenes.motion.position(times).transpose(1, 2)  # [B, S, K, 2]
    turned = torch.einsum("bij,bskj->bski", to_camera[:, :3, :2], ground.to(to_camera.dtype))
    return (turned + to_camera[:, None, None, :3, 3]).float()


def bearings(points: Tensor) -> Tensor:
    """Points ``[..., 3]`` of a camera's frame as it sees them, ``[..., 4]``.

    Cosine and sine of the bearing from its optical axis, towards its x, logarithm of the metres
    along the ground, and how far down, in shares of these.
    """
    x, y, z = points.unbind(-1)
    distance = torch.hypot(x, z).clamp(min=_NEAREST)
    return torch.stack((z / distance, x / distance, distance.log(), y / distance), -1)


class Forecaster(nn.Module):
    """Linear layers that read ``Forecast.places`` off the tokens of some blocks."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        # A third and two thirds up: the blocks above have what is known there.
        self.after = sorted({max(1, thirds * config.num_blocks // 3) for thirds in (1, 2)})
        numbers = KNOTS * _NUMBERS
        self.norms = nn.ModuleList(nn.LayerNorm(config.dim) for _ in self.after)
        self.heads = nn.ModuleList(nn.Linear(config.dim, numbers) for _ in self.after)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Read ``[B, Tc, h, w, K, 3]`` off ``features``, every block's ``[B, Tc, h, w, C]``."""
        read = zip(self.after, self.norms, self.heads, strict=True)
        return [
            head(norm(features[after - 1])).unflatten(-1, (-1, _NUMBERS)).float()
            for after, norm, head in read
        ]

    def loss(self, features: list[Tensor], forecast: Forecast) -> Tensor:
        """Return the mean error of the forecasts, over tokens that show a subject."""
        most, subject = forecast.shown.max(dim=1)
        weight = (most >= _LEAST_PIXELS).float()[..., None, None]
        rows = torch.arange(len(subject), device=subject.device).view(-1, 1, 1, 1)
        wanted = bearings(forecast.places)[..., :_NUMBERS][rows, subject]
        errors = [
            (F.smooth_l1_loss(told, wanted, beta=0.05, reduction="none") * weight).sum()
            for told in self(features)
        ]
        size = wanted[0, 0, 0, 0].numel() * len(errors)
        return torch.stack(errors).sum() / (weight.sum() * size).clamp(min=1)


def flow_loss(flow: Flow, camera: Tensor, forecast: Forecast) -> Tensor:
    """Return the mean errors of a flow, over tokens that show a subject and over the others.

    A subject's token has to tell where it will have gone by ``forecast_times``, any other how far
    away what it shows is, and that it stays there. ``camera [B, Tc, N, channels]`` are the tokens'
    rays.
    """
    subject, shown = _foremost(forecast)
    moving = shown.float()
    still = (forecast.shown.amax(1).flatten(-2) == 0).float()
    wanted = bearings(_carried(camera.float(), subject, forecast, forecast.places))
    error = F.smooth_l1_loss(
        bearings(flow.points(camera)), wanted, beta=_FINE, reduction="none"
    ).mean((-2, -1))
    far = -forecast.near.flatten(-2).clamp(min=1 / _FARTHEST).log()
    there = F.smooth_l1_loss(flow.log_distance, far, beta=0.05, reduction="none")
    # Nearly the absolute value, whose best guess is 0 unless more likely than not it moves.
    stays = flow.displacement.square().add(_STILL**2).sqrt().sub(_STILL).mean((-2, -1))
    return (error * moving).sum() / moving.sum().clamp(min=1) + (
        (there + stays) * still
    ).sum() / still.sum().clamp(min=1)


def missed(
    own: SceneFlow, flow: Flow, camera: Tensor, origins: Tensor, times: Tensor, forecast: Forecast
) -> Tensor:
    """Return how far flows are off where the target meets subjects, 0 to 1 on average.

    Of tokens that show a subject, in the target's frames that show it too; an error of ``_MISSED``
    counts 1/2, one of three times as much 0.9. So where a subject may go two ways, the likelier one
    is best told and not what lies between them, and ways on which nobody will see it do not count.
    ``origins`` and ``times`` as for ``SceneFlow.moves``.
    """
    assert forecast.met is not None
    subject, moving = _foremost(forecast)
    rows = torch.arange(len(subject), device=subject.device).view(-1, 1, 1)
    weight = forecast.met.in_view[rows, subject] & moving[..., None]  # [B, Tc, N, Tt]
    camera = camera.float()
    there = _carried(camera, subject, forecast, forecast.met.places).permute(0, 3, 1, 2, 4)
    seen_at = torch.stack(looks_of(there - origins[:, :, None, None]), dim=-1)
    told_at = torch.stack(looks_of(camera[..., :3]), dim=-1)[:, None]
    told_at = told_at + own.moves(flow, camera, origins, times)
    # Twice the sine of half the angle: it does not mind whole turns.
    square = torch.sin((told_at - seen_at) / 2).square().mul(4).sum(-1)
    share = square / (square + _MISSED**2)
    seen = weight.permute(0, 3, 1, 2).float()
    return (share * seen).sum() / seen.sum().clamp(min=1)


def known_flow(flow: Flow, camera: Tensor, forecast: Forecast, known: Tensor) -> Flow:
    """Return a flow in which subjects go as they truly will, in the worlds ``known``, bool [B].

    How far away they are stays as it is told. ``camera [B, Tc, N, channels]`` are the tokens' rays.
    """
    subject, shown = _foremost(forecast)
    moving = shown & known[:, None, None]
    camera = camera.float()
    there = _carried(camera, subject, forecast, forecast.places) - camera[..., None, 3:6]
    way = there / flow.log_distance[..., None, None].exp() - camera[..., None, :3]
    return flow._replace(
        displacement=torch.where(moving[..., None, None], way, flow.displacement)
    )


def _foremost(forecast: Forecast) -> tuple[Tensor, Tensor]:
    """Return which subject tokens show most of, ``[B, Tc, N]``, and if enough to be its tokens."""
    most, subject = (t.flatten(-2) for t in forecast.shown.max(dim=1))
    return subject, most >= _LEAST_SHARE * forecast.pixels


def _carried(camera: Tensor, subject: Tensor, forecast: Forecast, later: Tensor) -> Tensor:
    """Return where what tokens show of ``subject [B, Tc, N]`` will be, ``[B, Tc, N, K, 3]``.

    ``later [B, S, K, 3]`` is where the subjects will stand.
    Each token's part of a subject lies on the token's own ray, as far away as the subject stands,
    and goes as the subject goes: what is left of its middle stays left of it.
    """
    rows = torch.arange(len(subject), device=subject.device).view(-1, 1, 1)
    frames = torch.arange(subject.shape[1], device=subject.device).view(1, -1, 1)
    stands = forecast.stands[rows, subject, frames]
    ray, origin = camera[..., :3], camera[..., 3:6]
    away = torch.linalg.vector_norm((stands - origin)[..., ::2], dim=-1).clamp(min=_NEAREST)
    level = torch.linalg.vector_norm(ray[..., ::2], dim=-1).clamp(min=_LEVEL)
    part = origin + (away / level)[..., None] * ray
    return (part - stands)[..., None, :] + later[rows, subject]
