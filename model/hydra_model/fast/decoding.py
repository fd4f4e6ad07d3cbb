# SPDX-License-Identifier: Apache-2.0
"""The residual blocks of the autoencoder's streaming decoder, compiled.

Most of a decode are these blocks. Step by step each of their two halves writes a feature map
normalised, again behind the tail of the frames before it, and again convolved; compiled, norm,
activation and joining are one pass. A stream's tails come in and go out as arguments, so a block is
a pure function and is compiled as it is. All blocks of a level share one compilation.
"""

from __future__ import annotations

import logging

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResidualBlock
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.autoencoder_passes import FrameCache, residual_block
from hydra_model.fast.compiling import compiled

logger = logging.getLogger(__name__)

WARM_UP_LATENTS = 2  # the second piece of a stream is the first with a past
TOLERANCE = 0.05  # relative, in bfloat16; a compiled decoder that is off by more is broken


def compile_decoding(autoencoder: Autoencoder, height: int, width: int) -> CompiledBlocks:
    """Let ``decode_stream`` run compiled, in place; for one video of that size in pixels.

    Compiles now, by decoding two latent frames, and nothing later: streams of other sizes, or of a
    batch, run as before. So does everything where compiling fails, or does not give the same
    pictures, with one warning.
    """
    config = autoencoder.config
    size = (height // config.spatial_stride, width // config.spatial_stride)
    weight = autoencoder.wan.decoder.conv_in.weight
    numbers = torch.Generator().manual_seed(0)
    latents = torch.randn(
        1, config.latent_channels, WARM_UP_LATENTS, *size, generator=numbers
    ).to(weight.device)  # fmt: skip
    blocks = CompiledBlocks()
    with torch.inference_mode():  # as a world's steps decode: another mode is compiled anew
        *_, expected = autoencoder.decode_stream(latents)
        autoencoder.decoder_block = blocks
        *_, video = autoencoder.decode_stream(latents)
    blocks.learning = False
    error = float((video - expected).norm() / expected.norm())
    if not error < TOLERANCE:
        blocks.failed = True
        logger.warning("the compiled decoder is off by %.3g; it runs step by step", error)
    return blocks


class CompiledBlocks:
    """Runs a residual block as ``residual_block`` does, compiled for the shapes first seen."""

    def __init__(self) -> None:
        self.learning = True  # whether a shape that is not known yet is compiled
        self.failed = False
        self._known: set[tuple[int, ...]] = set()
        self._compiled = compiled(steady_block)

    def __call__(self, block: WanResidualBlock, x: Tensor, cache: FrameCache | None) -> Tensor:
        tails = () if cache is None else [cache.tails.get(c) for c in (block.conv1, block.conv2)]
        if self.failed or cache is None or any(tail is None for tail in tails):
            return residual_block(block, x, cache)
        if not self.learning and tuple(x.shape) not in self._known:
            return residual_block(block, x, cache)
        try:
            out, *tails = self._compiled(block, *[_one_layout(t) for t in (x, *tails)])
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a toolchain raises
            self.failed = True
            logger.warning("the decoder runs step by step on %s: %s", x.device, error)
            return residual_block(block, x, cache)
        self._known.add(tuple(x.shape))
        cache.tails.update(zip((block.conv1, block.conv2), tails, strict=True))
        return out


def steady_block(
    block: WanResidualBlock, x: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the block's result and the new tails of its two convolutions."""
    cache = FrameCache(first=False, tails={block.conv1: first, block.conv2: second})
    out = residual_block(block, x, cache)
    return out, cache.tails[block.conv1], cache.tails[block.conv2]


def _one_layout(x: Tensor) -> Tensor:
    """Return ``x [B, C, T, H, W]`` channels last, with the strides that this has by definition.

    Compiled code is for certain strides, and along an axis of length 1 they may be anything.
    """
    _, channels, frames, height, width = x.shape
    row = width * channels
    strides = (frames * height * row, 1, height * row, row, channels)
    return x.contiguous(memory_format=torch.channels_last_3d).as_strided(x.shape, strides)
