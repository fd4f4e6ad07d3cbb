# SPDX-License-Identifier: Apache-2.0
"""The Wan autoencoder: video to latents and back, whole, in one pass or as a stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor, nn

from hydra_model.autoencoder_passes import (
    FrameCache,
    ResidualBlock,
    decode_pass,
    encode_pass,
    residual_block,
)
from hydra_model.config import AutoencoderConfig

logger = logging.getLogger(__name__)

# Values of the widest feature map that one inference pass may hold (a few such maps live at a
# time). On a GPU small models go through whole; on a CPU passes that stay in its caches are
# about twice as fast.
PASS_VALUES = {"cpu": 2**21, "cuda": 2**28}


class Autoencoder(nn.Module):
    """A Wan autoencoder of any width around diffusers' ``AutoencoderKLWan``.

    Videos are float [B, 3, T, H, W] in [-1, 1] with T = 1 + temporal_stride*(k-1) and H, W
    multiples of the spatial stride; latents are float32 [B, C, k, H/stride, W/stride],
    normalised with the configuration's mean and deviation per channel. Everything is causal
    in time, so a stream and one pass over all frames agree, and no state is kept between
    calls. Weights may be float32 or bfloat16, contiguous or ``channels_last_3d``.
    ``decoder_block`` runs the residual blocks of ``decode`` and ``decode_stream``; the fast path
    replaces it.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder_block: ResidualBlock = residual_block
        self._channel_values: dict[tuple[tuple[float, ...], torch.device], Tensor] = {}
        channels = 3 * config.patch_size**2
        self.wan = AutoencoderKLWan(
            base_dim=config.base_dim,
            z_dim=config.latent_channels,
            dim_mult=list(config.dim_mult),
            num_res_blocks=config.num_res_blocks,
            temperal_downsample=list(config.temporal_downsample),
            latents_mean=list(config.latents_mean),
            latents_std=list(config.latents_std),
            in_channels=channels,
            out_channels=channels,
            patch_size=config.patch_size if config.patch_size > 1 else None,
            scale_factor_temporal=config.temporal_stride,
            scale_factor_spatial=config.spatial_stride,
        )

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """Return the latents of ``video``: the posterior's mean, normalised. No gradients."""
        self._check_video(video)
        per_pass = self._latents_per_pass(video.shape[-2:], video.device)

        def run(latents_per_piece: int) -> Tensor:
            return self._encode(video, latents_per_piece=latents_per_piece)

        return self._with_memory(per_pass, run)

    def _encode(self, video: Tensor, *, latents_per_piece: int) -> Tensor:
        stride = self.config.temporal_stride
        step = stride * latents_per_piece
        cache = FrameCache()
        pieces, start = [], 0
        while start < video.shape[2]:
            stop = start + step + (1 - stride if start == 0 else 0)
            pieces.append(encode_pass(self.wan, video[:, :, start:stop], cache))
            start = stop
        return self.normalise(torch.cat(pieces, dim=2).chunk(2, dim=1)[0])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the video of ``latents``, float32 clamped to [-1, 1]. No gradients."""
        stride = self.config.spatial_stride
        size = torch.Size((latents.shape[-2] * stride, latents.shape[-1] * stride))
        per_pass = self._latents_per_pass(size, latents.device)

        def run(latents_per_piece: int) -> Tensor:
            pieces = self.decode_stream(latents, latents_per_piece=latents_per_piece)
            return torch.cat(list(pieces), dim=2)

        return self._with_memory(per_pass, run)

    def _with_memory(self, per_pass: int, run: Callable[[int], Tensor]) -> Tensor:
        """Run with so many latent frames a pass, or one by one where memory does not suffice."""
        try:
            return run(per_pass)
        except torch.OutOfMemoryError:
            if per_pass == 1:
                raise
        logger.warning("no memory for %d latent frames a pass; going on one by one", per_pass)
        torch.cuda.empty_cache()
        return run(1)

    def decode_stream(self, latents: Tensor, *, latents_per_piece: int = 1) -> Iterator[Tensor]:
        """Yield the video of ``latents`` piece by piece, identical to ``decode``.

        With one latent frame per piece the first piece has 1 frame and every further one
        ``temporal_stride``. Pieces are float32 [B, 3, t, H, W] clamped to [-1, 1].
        """
        self._check_latents(latents)
        cache = FrameCache()
        for piece in self.denormalise(latents).split(latents_per_piece, dim=2):
            with torch.no_grad():  # not around the yield: the caller's mode is its own
                video = decode_pass(self.wan, piece, cache, self.decoder_block)
                video = video.float().clamp(-1.0, 1.0)
            yield video

    def encode_parallel(self, video: Tensor) -> Tensor:
        """``encode`` as one pass over all frames, for gradients and ``torch.compile``."""
        return self.normalise(self.encode_moments(video)[0])

    def decode_parallel(self, latents: Tensor, *, clamp: bool = True) -> Tensor:
        """``decode`` as one pass over all frames, for gradients and ``torch.compile``."""
        self._check_latents(latents)
        video = decode_pass(self.wan, self.denormalise(latents)).float()
        return video.clamp(-1.0, 1.0) if clamp else video

    def encode_moments(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior's mean and log variance before normalisation, in one pass."""
        self._check_video(video)
        mean, log_variance = encode_pass(self.wan, video).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def normalise(self, latents: Tensor) -> Tensor:
        """Bring raw latents to mean 0 and deviation 1 per channel (float32)."""
        return (latents.float() - self._per_channel(self.config.latents_mean, latents)) / (
            self._per_channel(self.config.latents_std, latents)
        )

    def denormalise(self, latents: Tensor) -> Tensor:
        """Undo ``normalise``."""
        return latents.float() * self._per_channel(
            self.config.latents_std, latents
        ) + self._per_channel(self.config.latents_mean, latents)

    def prepare(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Autoencoder:
        """Move the weights to where and how inference is fastest, in place; return self.

        Without ``dtype`` it is bfloat16 where the device multiplies it in hardware, else
        float32.
        """
        device = torch.device(device)
        dtype = dtype or fastest_dtype(device)
        self.to(device=device, dtype=dtype)
        return self.use_channels_last().requires_grad_(False).eval()

    def use_channels_last(self) -> Autoencoder:
        """Lay the weights out channels last, in place; return self.

        Passes then run channels last throughout, which is faster on every device.
        (``Module.to(memory_format=...)`` cannot: it holds 2D and 3D convolutions.)
        """
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                images = isinstance(module, nn.Conv2d)
                layout = torch.channels_last if images else torch.channels_last_3d
                module.weight.data = module.weight.data.contiguous(memory_format=layout)
        return self

    def latent_frames(self, frames: int) -> int:
        """Return k for ``frames`` = 1 + temporal_stride*(k-1), or raise ``ValueError``."""
        stride = self.config.temporal_stride
        if frames < 1 or (frames - 1) % stride:
            raise ValueError(f"{frames} video frames; accepted: 1 + {stride}*n, n = 0, 1, ...")
        return 1 + (frames - 1) // stride

    def _latents_per_pass(self, size: torch.Size, device: torch.device) -> int:
        config = self.config
        positions = size[0] * size[1] // config.patch_size**2
        values = positions * config.base_dim * config.temporal_stride
        return max(1, PASS_VALUES.get(device.type, 2**21) // values)

    def _check_video(self, video: Tensor) -> None:
        if video.ndim != 5 or video.shape[1] != 3 or not video.is_floating_point():
            raise ValueError(
                f"video is {video.dtype} {tuple(video.shape)}; accepted: float [B, 3, T, H, W]"
            )
        self.latent_frames(video.shape[2])
        stride = self.config.spatial_stride
        height, width = video.shape[-2:]
        if height < stride or width < stride or height % stride or width % stride:
            raise ValueError(
                f"video of {width}x{height} pixels; width and height must be multiples of {stride}"
            )

    def _check_latents(self, latents: Tensor) -> None:
        channels = self.config.latent_channels
        if latents.ndim != 5 or latents.shape[1] != channels or not latents.is_floating_point():
            raise ValueError(
                f"latents are {latents.dtype} {tuple(latents.shape)}; "
                f"accepted: float [B, {channels}, k, h, w]"
            )
        if 0 in latents.shape:
            raise ValueError(f"latents are empty: {tuple(latents.shape)}")

    def _per_channel(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        # Not a buffer: it belongs to the configuration, not to the weights. Kept per device, as
        # sending it anew would wait for the work that a GPU still has.
        key = (values, like.device)
        if key not in self._channel_values:
            with torch.inference_mode(False):
                made = torch.tensor(values, dtype=torch.float32, device=like.device)
            self._channel_values[key] = made.view(1, -1, 1, 1, 1)
        return self._channel_values[key]


def fastest_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where ``device`` multiplies it in hardware, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float32
    # PyTorch knows this but keeps the names private; without them float32 is always right.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    if device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in probes):
        return torch.bfloat16
    return torch.float32


def frames_to_video(frames: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Turn uint8 RGB frames [T, H, W, 3] into a float32 video [1, 3, T, H, W] in [-1, 1]."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; accepted: uint8 [T, H, W, 3]")
    values = torch.from_numpy(np.ascontiguousarray(frames)).to(device)
    return (values.float() / 127.5 - 1.0).permute(3, 0, 1, 2).unsqueeze(0)


def video_to_frames(video: Tensor) -> np.ndarray:
    """Turn a video [1, 3, T, H, W] or [3, T, H, W] in [-1, 1] into uint8 frames [T, H, W, 3]."""
    if video.ndim == 5 and video.shape[0] == 1:
        video = video[0]
    if video.ndim != 4 or video.shape[0] != 3:
        raise ValueError(
            f"video is {tuple(video.shape)}; accepted: [1, 3, T, H, W] or [3, T, H, W]"
        )
    levels = ((video.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 3, 0).contiguous().cpu().numpy()
