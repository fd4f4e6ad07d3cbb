# SPDX-License-Identifier: Apache-2.0
"""One pass of the Wan autoencoder over any number of frames, without state in the modules.

The weights live in diffusers' ``AutoencoderKLWan``; the forward is written anew because
diffusers walks latent frame by latent frame and keeps its feature cache in the module. Here
a pass covers as many frames as it is given: all of them at once (``cache`` None, what
training compiles) or a piece of a stream, whose past is the ``FrameCache`` that the caller
holds. Every split of a video into passes gives the same result.

Tensors are [B, C, T, H, W]; memory format ``channels_last_3d`` is kept where it comes in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    AutoencoderKLWan,
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
    patchify,
    unpatchify,
)
from torch import Tensor, nn

from hydra_model.fast import autoencoder_kernels


@dataclass
class FrameCache:
    """What one stream has seen: each time convolution's last input frames.

    ``first`` is true until the pass that holds frame 0 is over: frame 0 stands alone in
    time, so resampling layers treat it differently.
    """

    first: bool = True
    tails: dict[nn.Module, Tensor] = field(default_factory=dict)


# What runs a residual block: the block, its input, and what its stream has seen.
ResidualBlock = Callable[[WanResidualBlock, Tensor, FrameCache | None], Tensor]


def encode_pass(model: AutoencoderKLWan, video: Tensor, cache: FrameCache | None = None) -> Tensor:
    """Return the posterior's moments [B, 2C, k, h, w] of ``video`` [B, 3, T, H, W].

    T is 1 + stride*(k-1) in a first pass and stride*k in one that continues ``cache``.
    """
    encoder = model.encoder
    x = patchify(video, model.config["patch_size"] or 1)
    x = _causal_conv(encoder.conv_in, _like_weights(encoder.conv_in, x), cache)
    for block in encoder.down_blocks:
        if isinstance(block, WanResidualBlock):
            x = residual_block(block, x, cache)
        elif isinstance(block, WanResample):
            x = _downsample(block, x, cache)
    x = _middle(encoder.mid_block, x, cache)
    x = _causal_conv(encoder.conv_out, _norm_silu(encoder.norm_out, x), cache)
    moments = _causal_conv(model.quant_conv, x, cache)
    if cache is not None:
        cache.first = False
    return moments


def decode_pass(
    model: AutoencoderKLWan,
    latents: Tensor,
    cache: FrameCache | None = None,
    block: ResidualBlock | None = None,
) -> Tensor:
    """Return the unclamped video [B, 3, T, H, W] of ``latents`` [B, C, k, h, w].

    T is 1 + stride*(k-1) in a first pass and stride*k in one that continues ``cache``. ``block``
    runs the residual blocks, by default ``residual_block``.
    """
    run = block or residual_block
    decoder = model.decoder
    x = _causal_conv(model.post_quant_conv, _like_weights(decoder.conv_in, latents), cache)
    x = _causal_conv(decoder.conv_in, x, cache)
    x = _middle(decoder.mid_block, x, cache, run)
    level: Any  # a WanUpBlock; nn.ModuleList does not say so
    for level in decoder.up_blocks:
        for residual in level.resnets:
            x = run(residual, x, cache)
        if level.upsamplers is not None:
            x = _upsample(level.upsamplers[0], x, cache)
    x = _causal_conv(decoder.conv_out, _norm_silu(decoder.norm_out, x), cache)
    if cache is not None:
        cache.first = False
    return unpatchify(x, model.config["patch_size"] or 1)


def _like_weights(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Bring an input to the weights' type and memory format, which the rest of a pass keeps."""
    channels_last = conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    x = x.to(conv.weight.dtype)
    return x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x.contiguous()


def _causal_conv(conv: WanCausalConv3d, x: Tensor, cache: FrameCache | None) -> Tensor:
    """Convolve with the frames before ``x`` on the left: cached ones, else zeros."""
    past = conv.kernel_size[0] - 1
    if past > 0:
        tail = cache.tails.get(conv) if cache is not None else None
        x = F.pad(x, (0, 0, 0, 0, past, 0)) if tail is None else torch.cat([tail, x], dim=2)
        if cache is not None:
            cache.tails[conv] = x[:, :, -past:].clone()  # a view would keep all of x alive
    padding = (0, conv.kernel_size[1] // 2, conv.kernel_size[2] // 2)
    if not torch.compiler.is_compiling() and _needs_direct_call(x):
        return torch.mkldnn_convolution(
            x, conv.weight, conv.bias, padding, conv.stride, conv.dilation, conv.groups
        )
    return F.conv3d(x, conv.weight, conv.bias, stride=conv.stride, padding=padding)


def _needs_direct_call(x: Tensor) -> bool:
    """Whether ``conv3d`` would pass by oneDNN: so it does with few float32 frames on a CPU.

    Its own code is ten times slower there; the same operation called by name is not.
    """
    plain = x.device.type == "cpu" and x.dtype == torch.float32
    return plain and torch.backends.mkldnn.is_available()


def _norm_silu(norm: WanRMS_norm, x: Tensor) -> Tensor:
    if autoencoder_kernels.takes(x):
        return autoencoder_kernels.norm_silu(x, norm.gamma)
    return F.silu(_norm(norm, x))


def _norm(norm: WanRMS_norm, x: Tensor) -> Tensor:
    """Scale every position's channels to unit root mean square, then by the gain."""
    length = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
    scale = (norm.scale / length.clamp_min(1e-12)).to(x.dtype)
    gain = norm.gamma.to(x.dtype)  # keeps autocast's type
    return x * scale * gain.view(1, -1, *[1] * (x.ndim - 2))


def residual_block(block: WanResidualBlock, x: Tensor, cache: FrameCache | None) -> Tensor:
    """Return ``x`` [B, C, T, H, W] with what a residual block adds to it; C may change."""
    shortcut = x
    if isinstance(block.conv_shortcut, WanCausalConv3d):
        shortcut = _causal_conv(block.conv_shortcut, x, cache)
    x = _causal_conv(block.conv1, _norm_silu(block.norm1, x), cache)
    x = _causal_conv(block.conv2, _norm_silu(block.norm2, x), cache)
    return x + shortcut


def _middle(
    block: Any, x: Tensor, cache: FrameCache | None, run: ResidualBlock = residual_block
) -> Tensor:
    before, after = block.resnets
    x = _attention(block.attentions[0], run(before, x, cache))
    return run(after, x, cache)


def _per_frame(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply an image function to every frame; a view, not a copy, in ``channels_last_3d``."""
    frames = x.transpose(1, 2).flatten(0, 1)  # [B*T, C, H, W]
    return function(frames).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def _attention(block: WanAttentionBlock, x: Tensor) -> Tensor:
    """Attend with one head among the positions of each frame."""

    def attend(frames: Tensor) -> Tensor:
        height, width = frames.shape[-2:]
        qkv = block.to_qkv(_norm(block.norm, frames)).flatten(2).transpose(1, 2)  # [N, h*w, 3C]
        query, key, value = (part.unsqueeze(1) for part in qkv.chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(query, key, value).squeeze(1)
        return block.proj(attended.transpose(1, 2).unflatten(2, (height, width)))

    return x + _per_frame(attend, x)


def _downsample(block: WanResample, x: Tensor, cache: FrameCache | None) -> Tensor:
    """Halve height and width and, in a "downsample3d", the frames after the first."""
    x = _per_frame(block.resample, x)
    if block.mode != "downsample3d":
        return x
    conv = block.time_conv
    first = cache is None or cache.first
    last = x[:, :, -1:].clone() if cache is not None else x
    if first and x.shape[2] > 1:
        # Frame 0 passes as it is; windows (0, 1, 2), (2, 3, 4), ... make the rest.
        x = torch.cat([x[:, :, :1], F.conv3d(x, conv.weight, conv.bias, conv.stride)], dim=2)
    elif not first and cache is not None:
        window = torch.cat([cache.tails[conv], x], dim=2)
        x = F.conv3d(window, conv.weight, conv.bias, conv.stride)
    if cache is not None:
        cache.tails[conv] = last
    return x


def _upsample(block: WanResample, x: Tensor, cache: FrameCache | None) -> Tensor:
    """Double height and width and, in an "upsample3d", the frames after the first."""
    if block.mode == "upsample3d":
        if cache is not None and not cache.first:
            x = _double_frames(block, x, cache)
        elif x.shape[2] > 1:
            rest = _double_frames(block, x[:, :, 1:], cache)
            x = torch.cat([x[:, :, :1], rest], dim=2)
    return _per_frame(lambda frames: _upsample_frames(block, frames), x)


def _upsample_frames(block: WanResample, frames: Tensor) -> Tensor:
    doubled = F.interpolate(frames, scale_factor=2.0, mode="nearest-exact")
    return block.resample[1](doubled)


def _double_frames(block: WanResample, x: Tensor, cache: FrameCache | None) -> Tensor:
    """Make two frames of each: the halves of the time convolution's channels, in turn."""
    halves = _causal_conv(block.time_conv, x, cache).chunk(2, dim=1)
    return torch.stack(halves, dim=3).flatten(2, 3)
