# SPDX-License-Identifier: Apache-2.0
"""Training batches from prepared clips, in an order that depends on seed and step alone."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hydra_model.config import ModelConfig
from hydra_model.datasets.shards import PreparedClip
from hydra_model.rays import TokenCameras, previous_in_clip, token_cameras
from hydra_model.training.distributed import Process


@dataclass(frozen=True)
class LatentBatch:
    """B clips with their noise.

    Latents and ``noise`` float32 ``[B, C, T, h, w]``, cameras ``[B, T, 1 or N, c]``, times
    ``[T]`` in latent-frame units since the first target frame, ``text [B, tokens, dim]`` or None,
    ``level`` int64 ``[B]`` (index of the noise level), ``names`` of the clips,
    ``detail_camera`` of context and target for a detail scale, where there is one.
    """

    context: Tensor
    target: Tensor
    context_camera: Tensor
    target_camera: Tensor
    context_times: Tensor
    target_times: Tensor
    text: Tensor | None
    noise: Tensor
    level: Tensor
    names: tuple[str, ...]
    detail_camera: Tensor | None = None

    def to(self, device: torch.device) -> LatentBatch:
        """Return the batch on a device, without waiting for the work that it still has."""

        def moved(value: Tensor) -> Tensor:
            if device.type == "cuda":
                value = value.pin_memory()
            return value.to(device, non_blocking=True)

        tensors = {k: moved(v) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, **tensors)  # type: ignore[arg-type]


class Clips(Protocol):
    """So many prepared clips; ``datasets.PreparedClips`` and ``SyntheticClips`` are such."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> PreparedClip: ...


def check_clip(clip: PreparedClip, config: ModelConfig) -> None:
    """Raise ``ValueError`` where a prepared clip is not of the model's sizes."""
    stride = config.autoencoder.spatial_stride
    height, width = config.video.height // stride, config.video.width // stride
    channels = config.transformer.latent_channels
    wanted = {
        "context": (channels, config.context_latents, height, width),
        "target": (channels, config.chunk_latents, height, width),
    }
    for name, shape in wanted.items():
        found = tuple(getattr(clip, name).shape)
        if found != shape:
            raise ValueError(
                f"prepared clip {clip.name}: {name} latents are {found}; the model "
                f"{config.name!r} needs {shape}"
            )
    dim = 0 if clip.text is None else clip.text.shape[1]
    if dim != config.transformer.text_dim:
        raise ValueError(
            f"prepared clip {clip.name} has text of width {dim}; the model {config.name!r} needs "
            f"{config.transformer.text_dim}"
        )


def collate(
    clips: list[PreparedClip], config: ModelConfig, *, levels: int, seeds: list[int]
) -> LatentBatch:
    """Put clips together and draw noise and noise level of each by its seed, on the CPU."""
    stride = config.autoencoder.temporal_stride
    context = torch.stack([clip.context.float() for clip in clips])
    target = torch.stack([clip.target.float() for clip in clips])
    cameras, details = zip(*(_cameras(clip, config) for clip in clips), strict=True)
    camera = torch.cat(cameras)
    detail = [part for part in details if part is not None]
    count = context.shape[2]
    text = None
    if config.transformer.text_dim and config.text is not None:
        text = torch.zeros(len(clips), config.text.max_tokens, config.transformer.text_dim)
        for row, clip in zip(text, clips, strict=True):
            if clip.text is not None:
                row[: len(clip.text)] = clip.text.float()
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = target.shape[1:]
    # A latent frame stands for the last of its video frames; the first target frame is 0.
    first = -config.context_frames / stride
    return LatentBatch(
        context=context,
        target=target,
        context_camera=camera[:, :count],
        target_camera=camera[:, count:],
        context_times=torch.arange(count, dtype=torch.float64) + first,
        target_times=torch.arange(target.shape[2], dtype=torch.float64),
        text=text,
        level=torch.cat([torch.randint(levels, (1,), generator=g) for g in generators]),
        noise=torch.stack([torch.randn(shape, generator=g) for g in generators]),
        names=tuple(clip.name for clip in clips),
        detail_camera=torch.cat(detail) if detail else None,
    )


def _cameras(clip: PreparedClip, config: ModelConfig) -> TokenCameras:
    poses = torch.cat((clip.context_poses, clip.target_poses)).double()
    reference = torch.linalg.inv(clip.target_poses[0].double())
    before = torch.cat([previous_in_clip(p) for p in (clip.context_poses, clip.target_poses)])
    relative, previous = ((reference @ p.double())[None].float() for p in (poses, before))
    return token_cameras(config, relative, previous, fov_x=float(clip.fov_x))


class BatchStream:
    """The batches of a run by number; the next one is read while one is used.

    Every epoch goes through all clips in another order; each process takes its own part of
    every step. All depends on seed and number alone, so a resumed run meets the same batches.
    """

    def __init__(
        self, clips: Clips, config: ModelConfig, process: Process, *,
        batch: int, levels: int, seed: int = 0,
    ) -> None:  # fmt: skip
        check_clip(clips.load(0), config)
        self.clips, self.config, self.process = clips, config, process
        self.count, self.levels, self.seed = batch, levels, seed
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[int, Future[LatentBatch]] | None = None

    def batch(self, number: int) -> LatentBatch:
        """Return a batch on the process's device."""
        ahead, self._next = self._next, None
        if ahead is not None and ahead[0] == number:
            made = ahead[1].result()
        else:
            made = self._reader.submit(self._make, number).result()
        self._next = (number + 1, self._reader.submit(self._make, number + 1))
        return made.to(self.process.device)

    def first_clip(self) -> LatentBatch:
        """Return the first clip that this process meets, as a batch of its own."""
        clip = self.clips.load(self._index(self.process.rank * self.count))
        made = collate([clip], self.config, levels=self.levels, seeds=[self.seed])
        return made.to(self.process.device)

    def close(self) -> None:
        self._reader.shutdown(wait=True, cancel_futures=True)

    def _make(self, number: int) -> LatentBatch:
        place = (number * self.process.ranks + self.process.rank) * self.count
        chosen = [self.clips.load(self._index(place + i)) for i in range(self.count)]
        for clip in chosen:
            check_clip(clip, self.config)
        seeds = [_mixed(self.seed, 1 + place + i) for i in range(self.count)]
        return collate(chosen, self.config, levels=self.levels, seeds=seeds)

    def _index(self, place: int) -> int:
        epoch, within = divmod(place, len(self.clips))
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(_mixed(self.seed, -1 - epoch))
            self._order = (epoch, torch.randperm(len(self.clips), generator=generator))
        return int(self._order[1][within])


class SyntheticClips:
    """Made-up prepared clips of any size, to time training where there is no data.

    Smooth noise that drifts, the target going on where the context ends, so that there is
    something to learn.
    """

    def __init__(self, config: ModelConfig, count: int = 4, *, seed: int = 0) -> None:
        self.config, self.count, self.seed = config, count, seed

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> PreparedClip:
        config = self.config
        generator = torch.Generator().manual_seed(_mixed(self.seed, index))
        stride, channels = config.autoencoder.spatial_stride, config.transformer.latent_channels
        size = (config.video.height // stride, config.video.width // stride)
        split = config.context_latents
        frames = split + config.chunk_latents
        coarse = torch.randn(1, channels, 4, 4, 6, generator=generator)
        latents = torch.nn.functional.interpolate(coarse, (frames, *size), mode="trilinear")[0]
        latents = latents / latents.std()
        poses = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
        poses[:, 0, 3] = 0.05 * torch.arange(frames)
        text = None
        if config.text is not None:
            tokens = min(64, config.text.max_tokens)
            text = torch.randn(tokens, config.transformer.text_dim, generator=generator)
        return PreparedClip(
            name=f"synthetic-{index}",
            context=latents[:, :split],
            target=latents[:, split:],
            context_poses=poses[:split],
            target_poses=poses[split:],
            fov_x=torch.tensor(config.video.fov_x, dtype=torch.float64),
            text=text,
        )


def _mixed(seed: int, number: int) -> int:
    """Return a seed for a generator that depends on both numbers."""
    return (seed * 1_000_003 + number) * 2_654_435_761 % (2**63)
