# SPDX-License-Identifier: Apache-2.0
"""A small distilled decoder for the latents of Wan 2.1: blurrier than the autoencoder's, fast.

The published form is TAEHV with its weights for Wan 2.1 (github.com/madebyollin/taehv, the files
taew2_1; MIT). It reads the latents as the transformer writes them, normalised per channel, and
makes four pictures of each. Time is causal and enters in one way only: every ``MemoryBlock`` also
sees its own input of one frame before. Those inputs are all that a stream has to keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydra_model.config import WAN_LATENTS_MEAN, WAN_LATENTS_STD, AutoencoderConfig

LATENT_CHANNELS = 16
SPATIAL_STRIDE = 8
TEMPORAL_STRIDE = 4
WIDTHS = (256, 128, 64, 64)  # feature channels before, between and behind the levels
FRAMES = (1, 2, 2)  # frames that each level makes of one
BLOCKS = 3  # memory blocks of a level


class VideoDecoder(Protocol):
    """What turns latents into a video: an ``Autoencoder`` or a ``TinyDecoder``."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return the video of ``latents [B, C, k, h, w]``, float32 in [-1, 1]."""
        ...

    def decode_stream(self, latents: Tensor, *, latents_per_piece: int = 1) -> Iterator[Tensor]:
        """Yield the same piece by piece."""
        ...


@dataclass
class StreamMemory:
    """What one stream has seen: each memory block's input at the last frame, ``[B, C, H, W]``."""

    last: dict[nn.Module, Tensor] = field(default_factory=dict)


class MemoryBlock(nn.Module):
    """Three convolutions over a frame and the one before it, beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, frames: Tensor, batch: int, memory: StreamMemory) -> Tensor:
        """``frames [T*B, C, H, W]``, time outermost; the same shape comes back."""
        before = memory.last.get(self)
        before = torch.zeros_like(frames[:batch]) if before is None else before
        memory.last[self] = frames[-batch:].clone()  # a view would keep all frames alive
        past = torch.cat((before, frames[:-batch]))
        x = F.relu(self.conv1(torch.cat((frames, past), dim=1)))
        return F.relu(self.conv3(F.relu(self.conv2(x))) + frames)


class Level(nn.Module):
    """Memory blocks, then ``frames`` frames of each and twice the height and width."""

    def __init__(self, channels: int, narrower: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.blocks = nn.ModuleList([MemoryBlock(channels) for _ in range(BLOCKS)])
        self.grow = nn.Conv2d(channels, frames * channels, 1, bias=False)
        self.conv = nn.Conv2d(channels, narrower, 3, padding=1, bias=False)

    def forward(self, x: Tensor, batch: int, memory: StreamMemory) -> Tensor:
        """``[T*B, C, H, W]`` to ``[T*frames*B, C', 2*H, 2*W]``."""
        for block in self.blocks:
            x = block(x, batch, memory)
        # The published order enlarges first; a product per position gives the same before that,
        # at a quarter of the cost. Its channels hold the frames one after another.
        x = self.grow(x).unflatten(1, (self.frames, -1)).unflatten(0, (-1, batch))
        x = x.transpose(1, 2).flatten(0, 2).contiguous(memory_format=torch.channels_last)
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class TinyDecoder(nn.Module):
    """Decodes normalised latents of Wan 2.1, float ``[B, 16, k, h, w]``.

    Videos are float32 ``[B, 3, 1 + 4 * (k - 1), 8 * h, 8 * w]`` in [-1, 1], as those of
    ``Autoencoder``. No state is kept between calls. Weights may be of any floating-point type;
    feature maps are channels last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(LATENT_CHANNELS, WIDTHS[0], 3, padding=1)
        pairs = zip(WIDTHS[:-1], WIDTHS[1:], FRAMES, strict=True)
        self.levels = nn.ModuleList([Level(*sizes) for sizes in pairs])
        self.conv_out = nn.Conv2d(WIDTHS[-1], 3, 3, padding=1)

    def decode(self, latents: Tensor) -> Tensor:
        """Return the video of ``latents``. No gradients."""
        return torch.cat(list(self.decode_stream(latents)), dim=2)

    def decode_stream(self, latents: Tensor, *, latents_per_piece: int = 1) -> Iterator[Tensor]:
        """Yield the video piece by piece; with one latent frame a piece 1, 4, 4, ... frames."""
        if latents.ndim != 5 or latents.shape[1] != LATENT_CHANNELS or 0 in latents.shape:
            raise ValueError(
                f"latents are {tuple(latents.shape)}; accepted: [B, {LATENT_CHANNELS}, k, h, w]"
            )
        memory = StreamMemory()
        # The first latent frame stands for one picture: the last of the four that it gives.
        dropped = TEMPORAL_STRIDE - 1
        for piece in latents.split(latents_per_piece, dim=2):
            with torch.no_grad():  # not around the yield: the caller's mode is its own
                video = self.decode_piece(piece, memory)[:, :, dropped:]
            yield video
            dropped = 0

    def decode_piece(self, latents: Tensor, memory: StreamMemory) -> Tensor:
        """Return four frames for each of ``latents [B, 16, t, h, w]``, and go on in ``memory``."""
        batch = len(latents)
        x = latents.movedim(2, 0).flatten(0, 1).to(self.conv_in.weight.dtype)
        x = 3.0 * torch.tanh(x / 3.0)  # as in training: large values are rare, and pressed in
        x = F.relu(self.conv_in(x.contiguous(memory_format=torch.channels_last)))
        for level in self.levels:
            x = level(x, batch, memory)
        pictures = self.conv_out(F.relu(x)).float().clamp(0.0, 1.0)  # [T*B, 3, H, W], 0 is black
        return (2.0 * pictures - 1.0).unflatten(0, (-1, batch)).movedim(0, 2)

    def prepare(self, device: torch.device | str, dtype: torch.dtype) -> TinyDecoder:
        """Move the weights to where and how inference is fastest, in place; return self."""
        self.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.requires_grad_(False).eval()


def fits(config: AutoencoderConfig) -> bool:
    """Whether a model's latents are those of Wan 2.1."""
    sizes = (config.latent_channels, config.spatial_stride, config.temporal_stride)
    statistics = (config.latents_mean, config.latents_std)
    return sizes == (LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE) and statistics == (
        WAN_LATENTS_MEAN, WAN_LATENTS_STD,
    )  # fmt: skip


def check_latent_space(config: AutoencoderConfig, model: str) -> None:
    """Raise ``ValueError`` unless a model's latents are those of Wan 2.1."""
    if not fits(config):
        raise ValueError(
            f"tiny_decoder decodes the latents of Wan 2.1 (16 channels, 8x8 pixels, 4 frames, its "
            f"own mean and deviation); those of the model {model!r} are others "
            f"({config.latent_channels} channels, {config.spatial_stride}x{config.spatial_stride} "
            f"pixels, {config.temporal_stride} frames)"
        )
