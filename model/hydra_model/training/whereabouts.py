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

from hydra_model.config import TransformerConfig
from hydra_model.procedural import Worlds
from hydra_model.training.layouts import TEMPORAL_STRIDE, Layout

FORECAST_TIMES = (0.0, 1.25, 2.5, 3.75, 5.0)  # seconds from the first target frame
_NUMBERS = 3  # cosine and sine of the bearing, logarithm of the distance
_NEAREST = 0.5  # metres; nearer ones count as so near
_LEAST_PIXELS = 8.0  # of one subject in a token, over its video frames


class Forecast(NamedTuple):
    """What context tokens are to tell.

    ``shown [B, S, Tc, h, w]`` are the pixels of each subject in a token, ``places [B, S, K, 3]``
    say where it will be at ``FORECAST_TIMES``, seen from the first target camera: cosine and sine
    of the bearing from its optical axis, towards its x, and the logarithm of the metres to it.
    """

    shown: Tensor
    places: Tensor


def count_pixels(ids: Tensor, subjects: int, cell: int) -> Tensor:
    """Count each subject's pixels in cells: ids uint8 [B, T, H, W] to int64 [B, S, T, h, w]."""
    cells = ids.unflatten(-1, (-1, cell)).unflatten(-3, (-1, cell))
    return torch.stack([(cells == s + 1).sum((-3, -1)) for s in range(subjects)], 1)


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
    """Return ``Forecast.places`` at ``times [K]``, seconds of the worlds.

    ``to_camera [B, 4, 4]`` is the inverse of the first target camera's pose.
    """
    ground = worlds.scenes.motion.position(times).transpose(1, 2)  # [B, S, K, 2]
    x, _, z = (
        (to_camera[:, None, None, row, :2] * ground).sum(-1) + to_camera[:, None, None, row, 3]
        for row in range(3)
    )
    distance = torch.hypot(x, z).clamp(min=_NEAREST)
    return torch.stack((z / distance, x / distance, distance.log()), -1).float()


class Forecaster(nn.Module):
    """Linear layers that read ``Forecast.places`` off the tokens of some blocks."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        # A third and two thirds up: the blocks above have what is known there.
        self.after = sorted({max(1, thirds * config.num_blocks // 3) for thirds in (1, 2)})
        numbers = len(FORECAST_TIMES) * _NUMBERS
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
        wanted = forecast.places[rows, subject]
        errors = [
            (F.smooth_l1_loss(told, wanted, beta=0.05, reduction="none") * weight).sum()
            for told in self(features)
        ]
        size = wanted[0, 0, 0, 0].numel() * len(errors)
        return torch.stack(errors).sum() / (weight.sum() * size).clamp(min=1)
